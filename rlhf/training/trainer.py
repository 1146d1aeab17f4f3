"""Training through transformers' Trainer, for `base`, `sft`, `reward` and `offline`: deterministic, and safe to kill.

The Trainer brings the loop, mixed precision, gradient accumulation, AdamW, the learning-rate schedule and the
checkpoint of all of them. Added here, in `training_curve` and in `trainer_checkpoints`: examples come in an order drawn
from `rlhf.core.seeding` (the Trainer only reads them in sequence); validation is exact, whatever the batches; the best
weights by validation loss are the result; a run that was killed ends with the bytes of one that was not.

The Trainer keeps optimiser, schedule and RNG states in torch's format. It reads them back with `weights_only=True`,
which builds tensors and plain containers and runs no code, and they never leave the checkpoint folder. Weights are
safetensors throughout.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import Stopped
from rlhf.core.params import TrainingSection
from rlhf.core.processes import current
from rlhf.core.progress import say_resumed
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import derive
from rlhf.training.batches import IGNORED, Batch
from rlhf.training.interrupt import interruptible
from rlhf.training.shards import Shards, rows_of
from rlhf.training.trainer_checkpoints import Keeper, newest_whole
from rlhf.training.training_curve import Record

T = TypeVar("T")

ADAPTER = "default"  # the name under which the Trainer finds a trained adapter again

_NEVER = 10**9  # evaluations between saves by the library's own clock; `Keeper` says when


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to train."""

    stream: str  # name of the run: of its random streams, of its progress bar, in its errors
    steps: int  # optimiser steps
    batch_size: int  # examples in one forward
    accumulate: int  # forwards in one step
    lr: float  # the peak
    schedule: str  # linear | cosine | constant_with_warmup
    warmup_steps: int  # steps over which the rate rises from 0
    weight_decay: float
    grad_clip: float  # largest norm of a gradient
    eval_every: int  # steps; the last step is evaluated as well
    log_every: int  # steps between rows of the curve
    patience: int  # validations without a lower loss that end the run; 0 = it goes to the end
    shards: int = 1  # parts that each forward's batch is cut into, which processes share

    @classmethod
    def of(
        cls,
        params: TrainingSection,
        *,
        stream: str,
        steps: int,
        lr: float,
        accumulate: int = 1,
        patience: int = 0,
    ) -> "Plan":
        """Make a plan from a section of params.yaml; parameters that not every section has are given beside it."""
        return cls(
            stream=stream,
            steps=steps,
            batch_size=params.batch_size,
            accumulate=accumulate,
            lr=lr,
            schedule=params.schedule,
            warmup_steps=params.warmup_steps,
            weight_decay=params.weight_decay,
            grad_clip=params.grad_clip,
            eval_every=params.eval_every,
            log_every=params.log_every,
            patience=patience,
            shards=params.shards,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of a training run. The model holds the weights of `best_step`."""

    best_step: int
    validation_loss: float  # of the best step, as the validation function gave it
    train_loss: float  # mean over the steps of the curve's last row


class InOrder(Dataset[T], Generic[T]):
    """Examples in the order in which they are trained on: item i is `examples[order[i]]`."""

    def __init__(self, examples: Sequence[T], order: Sequence[int]) -> None:
        self._examples, self._order = examples, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> T:
        return self._examples[self._order[index]]


class Exact:
    """Mixin for a Trainer: it records training losses step by step, validates by a function, and sums in shards."""

    args: Any
    state: Any
    control: Any
    model: Any
    callback_handler: Any

    def __init__(
        self,
        *,
        validate: Callable[[nn.Module], float],
        record: Record,
        shards: Shards | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._validate, self._record, self._shards = validate, record, shards

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Run one forward and backward pass; the loss is its share of the step's mean.

        With shards, one pass for each part of the batch that is this process's; loss and gradients are of the whole.
        `num_items_in_batch`: labelled tokens of the whole step, by which the model divides; None where the loss is a
        mean over what one pass is given.
        """
        step = partial(super().training_step, model)  # type: ignore[misc] # untyped there

        def whole(batch: Batch) -> Tensor:
            loss: Tensor = step(batch, num_items_in_batch)
            return loss

        def part(shard: int, shards: int) -> tuple[Tensor, float]:
            batch = self.part_of(inputs, shard, shards)
            return whole(batch), 1.0 if num_items_in_batch is not None else self.weight_of(batch, inputs)

        moment = self.state.global_step, self._record.forwards
        loss = whole(inputs) if self._shards is None else self._shards.step(model, part, moment)
        self._record.add(loss)
        return loss

    def part_of(self, inputs: Batch, shard: int, shards: int) -> Batch:
        """Cut one of `shards` parts out of a batch whose examples lie one after the other."""
        return {name: rows_of(value, shard, shards) for name, value in inputs.items()}

    def weight_of(self, part: Batch, inputs: Batch) -> float:
        """Weigh a part of a batch whose loss is a mean: by its labelled tokens, or where none are by its examples."""
        if "labels" not in inputs:
            return len(next(iter(part.values()))) / len(next(iter(inputs.values())))
        tokens, every = (int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in (part, inputs))
        return tokens / every

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save, on the process that writes; the others learn where the best weights lie."""
        if current().is_main:
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc] # untyped there
        elif self.state.best_global_step:
            self.state.best_model_checkpoint = f"{self.args.output_dir}/checkpoint-{self.state.best_global_step}"

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Compute the validation loss by the given function; the library compares it with the best so far."""
        metrics = {"eval_loss": self._validate(cast(nn.Module, self.model))}
        self._record.write_row(metrics["eval_loss"])
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Skip the library's count, which walks the whole model at every step and is never read."""
        return 0


class ExactTrainer(Exact, Trainer):
    """transformers' Trainer with the additions of `Exact`."""


def fit(
    model: PreTrainedModel | nn.Module,
    *,
    examples: Sequence[T],
    order: Sequence[int],
    collate: Callable[[list[T]], Batch],
    validate: Callable[[nn.Module], float],
    plan: Plan,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Path,
    trainer: Callable[..., Trainer] = ExactTrainer,
    arguments: Callable[..., TrainingArguments] = TrainingArguments,
) -> Fit:
    """Train the trainable weights of `model` in place, and leave them at the best validation loss.

    It continues from the newest whole checkpoint in `checkpoints.folder`. `order` holds steps * accumulate * batch_size
    indices into `examples`. The first label of each row that `collate` makes must be -100. `validate` gives the loss
    that the best step is chosen by. `curve` becomes a CSV with columns step, train_loss, validation_loss. `trainer` and
    `arguments` replace `ExactTrainer` and `TrainingArguments` where the loss is another one; they get the same
    arguments.

    Raises:
        Stopped: SIGINT or SIGTERM came; everything is saved.
        UserError: the training or validation loss became NaN or infinite.
        ValueError: `order` is of another length.
    """
    if len(order) != plan.steps * plan.accumulate * plan.batch_size:
        raise ValueError(f"order holds {len(order)} indices; {plan} needs steps * accumulate * batch_size")
    record = Record(
        curve, stream=plan.stream, steps=plan.steps, log_every=plan.log_every, eval_every=plan.eval_every,
        patience=plan.patience,
    )  # fmt: skip
    processes = runtime.processes
    name = processes.tell(lambda: getattr(newest_whole(checkpoints.folder), "name", ""))
    resume = checkpoints.folder / name if name else None
    if resume is not None:
        record.restore(resume)
        say_resumed(plan.stream, "step", record.step, plan.steps)
    data = InOrder(examples, order)
    with interruptible() as stop, _without_cache(model), _quiet():
        loop = trainer(
            model=model,
            args=_arguments(plan, runtime, checkpoints.folder, arguments),
            train_dataset=data,
            eval_dataset=data,  # the library wants one; `validate` has its own
            data_collator=collate,
            validate=validate,
            record=record,
            shards=None if plan.shards == 1 else Shards(plan.shards, processes, seed=runtime.seed, stream=plan.stream),
        )
        loop.remove_callback(PrinterCallback)
        loop.add_callback(Keeper(checkpoints, stop, record))
        with record:
            loop.train(resume_from_checkpoint=None if resume is None else str(resume))
        if stop.requested:
            raise Stopped
    state = loop.state
    if not state.best_global_step or state.best_metric is None or record.last_train_loss is None:
        raise RuntimeError(f"{plan.stream}: the last step was not validated")
    processes.check_same({name: weight for name, weight in model.named_parameters() if weight.requires_grad})
    model.eval()
    return Fit(state.best_global_step, state.best_metric, record.last_train_loss)


def _arguments(plan: Plan, runtime: Runtime, folder: Path, make: Callable[..., TrainingArguments]) -> TrainingArguments:
    on_cpu = runtime.device.type == "cpu"
    arguments = make(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulate,
        train_sampling_strategy="sequential",  # the order is drawn already
        learning_rate=plan.lr,
        lr_scheduler_type=plan.schedule,
        warmup_steps=plan.warmup_steps,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.grad_clip,
        optim="adamw_torch_fused",
        bf16=runtime.dtype == torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=derive(runtime.seed, plan.stream, "trainer") % 2**32,  # of dropout, the only draw left to the library
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would hide what `Record` looks for
        eval_strategy="steps",
        eval_steps=plan.eval_every,
        save_strategy="steps",
        save_steps=plan.eval_every * _NEVER,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process, one device: no DataParallel behind the user's back
    return arguments


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's remarks on what is meant so (tied weights, a default loss)."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Switch the key-value cache off while training, and on again: the config is saved later."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "use_cache"):
        yield
        return
    before, config.use_cache = config.use_cache, False
    try:
        yield
    finally:
        config.use_cache = before
