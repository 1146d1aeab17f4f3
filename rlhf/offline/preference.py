"""Train by DPO (Rafailov et al. 2023, arXiv 2305.18290) or IPO (Azar et al. 2023, arXiv 2310.12036), with trl's
DPOTrainer.

trl brings the losses and keeps the reference policy, a frozen copy of the adapter that training begins with: the SFT
policy. Ours are the token ids, their order, the checkpoints and the choice of the best step, as in `sft`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedTokenizerBase, TrainingArguments

from rlhf.core.processes import current
from rlhf.offline.examples import Candidates
from rlhf.offline.learn import Job
from rlhf.training.batches import Batch, in_batches
from rlhf.training.shards import rows_of
from rlhf.training.trainer import Exact, Fit, InOrder

if TYPE_CHECKING:
    from trl.trainer.dpo_trainer import DPOTrainer

Loss = Literal["sigmoid", "ipo"]  # trl's names: DPO's, eq. 7 of its paper; IPO's, eq. 17, on mean logprobs a token


def train_preferences(
    job: Job,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Candidates],
    validation: Sequence[Candidates],
    *,
    beta: float,
    loss: Loss,
) -> tuple[Fit, float]:
    """Train the adapter in place on pairs; also return the share of validation pairs whose final margin over the SFT
    policy is above 0: log p(chosen)/ref(chosen) > log p(rejected)/ref(rejected).

    Raises:
        UserError: the loss became NaN.
        Stopped: a signal came; everything is saved.
    """
    built: list[DPOTrainer] = []
    collate = partial(collate_pairs, pad_id=int(tokenizer.pad_token_id))
    train, validation = relative(train), relative(validation)
    batches = in_batches(validation, job.shared.batch_size, lambda pairs: collate([_row(pair) for pair in pairs]))

    def build(**arguments: Any) -> "DPOTrainer":
        built.append(dpo_trainer(tokenizer, **arguments))
        return built[-1]

    result = job.fit(
        model,
        train,
        collate=collate,
        validate=lambda _: _validation(built[-1], batches)[0],
        trainer=build,
        arguments=partial(dpo_arguments, beta=beta, loss=loss),
    )
    return result, _validation(built[-1], batches)[1]


def dpo_arguments(*, beta: float, loss: Loss, **arguments: Any) -> TrainingArguments:
    """Make trl's DPOConfig for one loss; nothing is cut off, and activations are kept."""
    from trl.trainer.dpo_config import DPOConfig

    with warnings.catch_warnings():  # transformers renames what trl still calls gradient_checkpointing
        warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated", category=FutureWarning)
        return DPOConfig(beta=beta, loss_type=[loss], max_length=None, gradient_checkpointing=False, **arguments)


def dpo_trainer(tokenizer: PreTrainedTokenizerBase, **arguments: Any) -> "DPOTrainer":
    """Make trl's DPOTrainer with our order of examples and our checkpoints; it sends and writes nothing of its own."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    class ExactDPO(Exact, DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
            return dataset  # it holds token ids already, the same as everywhere in the pipeline

        def _send_telemetry(self) -> None:
            pass

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            pass

        def _compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool) -> Any:
            if "weights" not in inputs:
                return super()._compute_loss(model, inputs, return_outputs)  # type: ignore[no-untyped-call]
            ratios, tokens = _log_ratios(self, model, inputs)
            right = (ratios[0] > ratios[1]).float().mean()
            self._metrics["train" if model.training else "eval"]["rewards/accuracies"].append(float(right))
            losses = preference_loss(
                cast(Loss, self.loss_types[0]),
                self.beta,
                ratios,
                tokens,
                inputs["margins"],
                targets=inputs.get("targets"),
            )
            return (losses * inputs["weights"]).mean()

        def part_of(self, inputs: Batch, shard: int, shards: int) -> Batch:
            return part_of_pairs(inputs, shard, shards)

        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = super().training_step(*args, **kwargs)
            self._metrics["train"].clear()  # kept for a log that is not written, they would grow for the whole run
            return loss

    given: InOrder[Candidates] = arguments.pop("train_dataset")
    rows = Dataset.from_list([_row(given[index]) for index in range(len(given))])
    arguments |= {"train_dataset": rows, "eval_dataset": rows.select([0]), "processing_class": tokenizer}
    return ExactDPO(**arguments)


def collate_pairs(rows: list[dict[str, Any]], *, pad_id: int) -> Batch:
    """Make trl's batch of pairs: all chosen rows, then all rejected ones, (2 B, T) ids, mask and completion mask; and,
    where a pair has a weight other than 1, a margin or a target other than 1, (B,) weights, margins and targets."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    batch: Batch = DataCollatorForPreference(pad_token_id=pad_id)(rows)
    if any(row["weight"] != 1 or row["margin"] or row["target"] != 1 for row in rows):
        batch["weights"] = torch.tensor([row["weight"] for row in rows])
        batch["margins"] = torch.tensor([row["margin"] for row in rows])
    if any(row["target"] != 1 for row in rows):
        batch["targets"] = torch.tensor([row["target"] for row in rows])
    return batch


def part_of_pairs(batch: Batch, shard: int, shards: int) -> Batch:
    """Cut one of `shards` parts out of a batch of `collate_pairs`: the same pairs of its chosen and rejected halves."""
    rows = len(batch["input_ids"])
    sides = {name: value.chunk(2) if len(value) == rows else (value,) for name, value in batch.items()}
    return {name: torch.cat([rows_of(side, shard, shards) for side in both]) for name, both in sides.items()}


def _log_ratios(trainer: "DPOTrainer", model: nn.Module, inputs: Batch) -> tuple[Tensor, Tensor]:
    """Compute log p / ref of chosen and rejected responses, summed over tokens, and the numbers of these, (2, B) each.

    The forward passes are those of trl's own loss.
    """
    from trl.trainer.utils import use_adapter

    mask = inputs["completion_mask"]
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
    given |= {"labels": inputs["input_ids"].masked_fill(mask == 0, -100), "fused_lm_head": True}
    ours = model(**given).log_probs.sum(1)
    with torch.no_grad(), use_adapter(trainer.accelerator.unwrap_model(model), adapter_name="ref"):
        reference = model(**given).log_probs.sum(1)
    return torch.stack((ours - reference).chunk(2)), torch.stack(mask.sum(1).float().chunk(2))


def relative(pairs: Sequence[Candidates]) -> Sequence[Candidates]:
    """Scale weights to a mean of 1, so that weighted losses are weighted means."""
    mean = sum(pair.weight for pair in pairs) / len(pairs)
    return [replace(pair, weight=pair.weight / mean) for pair in pairs]


def preference_loss(
    loss: Loss,
    beta: float,
    ratios: Float[Tensor, "2 B"],
    tokens: Float[Tensor, "2 B"],
    margins: Float[Tensor, " B"],
    *,
    targets: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, " B"]:
    """Compute the loss of each pair from log p / ref of chosen and rejected (sums over tokens, nats).

    DPO with the margin m of the reward model's loss (Touvron et al. 2023, eq. 2) on its implied rewards, the offset of
    Amini et al. 2024 (arXiv 2402.10571): -log sigmoid(beta (chosen - rejected) - m). IPO (eq. 17, on means over
    tokens) has its own margin, 1 / (2 beta), and takes no other.

    `targets` t: the probability that chosen is the better one. The loss is then its expectation over both orders, t
    loss(chosen, rejected) + (1 - t) loss(rejected, chosen): of DPO the cross-entropy of soft labels (Mitchell 2023, A
    note on DPO with noisy preferences), of IPO the square that is least at a margin of (2 t - 1) / (2 beta).
    """
    if targets is not None:
        one_way = preference_loss(loss, beta, ratios, tokens, margins)
        other = preference_loss(loss, beta, ratios.flip(0), tokens.flip(0), margins)
        return targets * one_way + (1 - targets) * other
    if loss == "ipo":
        chosen, rejected = ratios / tokens.clamp_min(1)
        squares: Tensor = (chosen - rejected - 1 / (2 * beta)) ** 2
        return squares
    losses: Tensor = -logsigmoid(beta * (ratios[0] - ratios[1]) - margins)
    return losses


def _row(pair: Candidates) -> dict[str, Any]:
    chosen, rejected = pair.responses
    row = {"prompt_ids": pair.prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    return row | {"weight": pair.weight, "margin": pair.margin, "target": pair.target}


def _validation(trainer: "DPOTrainer", batches: Sequence[Batch]) -> tuple[float, float]:
    """Compute the mean loss a pair, whatever the batches, and the share of pairs with a margin above 0.

    Processes that share a run share the batches.
    """
    model = cast(nn.Module, trainer.model)
    training = model.training
    model.eval()
    total, right, count = 0.0, 0.0, 0
    with torch.no_grad():
        for batch, (loss, share) in zip(batches, current().map(batches, partial(_of_batch, trainer)), strict=True):
            size = batch["input_ids"].shape[0] // 2
            total, right, count = total + loss * size, right + share * size, count + size
    model.train(training)
    return total / count, right / count


def _of_batch(trainer: "DPOTrainer", batch: Batch) -> tuple[float, float]:
    """Compute a batch's mean loss, and the share of its pairs with a margin above 0."""
    on_device = {name: tensor.to(trainer.args.device) for name, tensor in batch.items()}
    trainer._metrics["eval"].clear()
    loss: Tensor = trainer.compute_loss(trainer.model, on_device)  # type: ignore[no-untyped-call]
    share: float = trainer._metrics["eval"]["rewards/accuracies"][-1]
    trainer._metrics["eval"].clear()
    return float(loss), share
