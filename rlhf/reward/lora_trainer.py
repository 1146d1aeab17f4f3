"""Train a reward model's backbone too: a copy of the SFT adapter learns with the head.

The loop, its checkpoints and the choice of the best step are those of `base` and `sft` (`rlhf.training.trainer`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import generator
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.lora import set_dropout
from rlhf.models.reward.heads import Mlp
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import REWARD, Row, Scorer, pooled_episodes
from rlhf.models.text.tokens import Episodes
from rlhf.reward.fit import initial_weight, pair_loss, relative
from rlhf.reward.fit_mlp import start
from rlhf.reward.pairs import TextPair
from rlhf.reward.params import RewardParams
from rlhf.training.batches import Batch
from rlhf.training.trainer import Fit, Plan, fit


@dataclass(frozen=True, slots=True)
class PairRows:
    """Token rows of a pair, its weight in training, its margin in logits, and the probability that its chosen response
    is the better one."""

    chosen: Row
    rejected: Row
    weight: float
    margin: float = 0.0
    target: float = 1.0


@dataclass(frozen=True, slots=True)
class PairSplits:
    """Token rows of training and validation pairs."""

    train: Sequence[PairRows]
    validation: Sequence[PairRows]


class Pairwise(nn.Module):
    """The pairwise loss as a module that the Trainer can train. Its state holds only what is trained."""

    _keys_to_ignore_on_save = None  # the Trainer asks for it when it reads the best step back

    def __init__(self, backbone: Backbone, model: RewardModel) -> None:
        super().__init__()
        self.network, self.reward = backbone.model, model
        self._backbone = backbone

    def forward(
        self,
        *,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        response_ids: Tensor,
        mask: Tensor,
        weights: Tensor,
        margins: Tensor,
        targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the weighted mean of -log sigmoid(r_chosen - r_rejected - margin) over pairs of rows, chosen first
        (Ouyang et al. 2022, eq. 1; Touvron et al. 2023, eq. 2). Rewards are raw: a length correction comes after
        training."""
        episodes = Episodes(prompt_ids, prompt_mask, response_ids, mask)
        features = pooled_episodes(self._backbone, episodes, model=self.reward, adapter=REWARD)
        scores = self.reward.member_scores(features).view(-1, 2)
        return {"loss": pair_loss(scores[:, 0] - scores[:, 1], weights, margins, targets)}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # all its overloads
        """Return adapter, head and query: the frozen base is neither copied into checkpoints nor read back."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in trained}


def tune(
    backbone: Backbone,
    model: RewardModel,
    sides: PairSplits,
    params: RewardParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Path,
) -> Fit:
    """Train the backbone's adapter REWARD and the head in place, to the lowest loss on the validation pairs.

    Raises:
        UserError: fewer training pairs than a batch holds, or the loss became NaN.
        Stopped: a signal came; everything is saved.
    """
    plan = params.tune
    steps = len(sides.train) // plan.batch_size
    if steps == 0 or not sides.validation:
        raise UserError(
            f"reward.tune.batch_size: found {plan.batch_size}, with {len(sides.train)} training and "
            f"{len(sides.validation)} validation pairs; allowed: 1 to the training pairs, and at least 1 to validate"
        )
    _start(model, runtime.seed)
    model.requires_grad_(True)
    set_dropout(backbone.model, REWARD, plan.dropout)
    scorer, module = Scorer(backbone, model, REWARD), Pairwise(backbone, model)
    shares = relative(torch.tensor([pair.weight for pair in sides.validation]))
    margins = torch.tensor([pair.margin for pair in sides.validation], dtype=torch.float64)
    targets = _targets(sides.validation)

    def validate(_: nn.Module) -> float:
        module.eval()  # the Trainer sets train mode again at each step
        scores = side_scores(scorer, sides.validation, params.batch_tokens)
        return float(pair_loss(scores[:, 0] - scores[:, 1], shares, margins, targets))

    found = fit(
        module,
        examples=_relative(sides.train),
        order=_order(len(sides.train), steps * plan.batch_size, plan.epochs, runtime.seed),
        collate=_collator(backbone.pad_id),
        validate=validate,
        plan=Plan.of(plan, stream="reward", steps=steps * plan.epochs, lr=plan.lr, patience=params.patience),
        runtime=runtime,
        checkpoints=checkpoints,
        curve=curve,
    )
    model.requires_grad_(False).eval()
    for parameter in backbone.parameters_of(REWARD).values():
        parameter.requires_grad_(False)
    return found


@torch.no_grad()
def _start(model: RewardModel, seed: int) -> None:
    if isinstance(model.head, Mlp):
        start(model.head, seed)
    else:
        model.head.weight.copy_(initial_weight(model.feature_size, seed).unsqueeze(0))


def _relative(pairs: Sequence[PairRows]) -> list[PairRows]:
    """Scale the pairs' weights to a mean of 1."""
    shares = relative(torch.tensor([pair.weight for pair in pairs])).tolist()
    return [replace(pair, weight=share) for pair, share in zip(pairs, shares, strict=True)]


def side_scores(scorer: Scorer, pairs: Sequence[PairRows], batch_tokens: int) -> Tensor:
    """Score chosen and rejected, (N, 2) in float64, as the scorer's model does."""
    rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
    with torch.no_grad():
        return torch.tensor(scorer.score_rows(rows, batch_tokens=batch_tokens), dtype=torch.float64).view(-1, 2)


def by_split(rows: Sequence[Row], pairs: Sequence[TextPair], sizes: Mapping[str, int]) -> dict[str, list[PairRows]]:
    """Regroup rows of all pairs, chosen and rejected in turn, as pairs of each split."""
    sides = zip(rows[::2], rows[1::2], pairs, strict=True)
    every = iter(
        [PairRows(chosen, rejected, pair.weight, pair.margin, pair.target) for chosen, rejected, pair in sides]
    )
    return {name: list(islice(every, size)) for name, size in sizes.items()}


def _targets(pairs: Sequence[PairRows]) -> Tensor | None:
    """Return the pairs' targets in float64; None where all are 1."""
    if all(pair.target == 1 for pair in pairs):
        return None
    return torch.tensor([pair.target for pair in pairs], dtype=torch.float64)


def _order(pairs: int, used: int, epochs: int, seed: int) -> list[int]:
    """Draw an order for each epoch, without the rest that fills no batch."""
    draws = (torch.randperm(pairs, generator=generator(seed, "reward", "order", e + 1)) for e in range(epochs))
    return [index for order in draws for index in order[:used].tolist()]


def _collator(pad_id: int) -> Any:
    def collate(pairs: list[PairRows]) -> Batch:
        rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
        episodes = Episodes.of([p for p, _ in rows], [r for _, r in rows], pad_id=pad_id, device="cpu")
        targets = _targets(pairs)
        soft = {} if targets is None else {"targets": targets.float()}
        return soft | {
            "prompt_ids": episodes.prompt_ids,
            "prompt_mask": episodes.prompt_mask,
            "response_ids": episodes.response_ids,
            "mask": episodes.mask,
            "weights": torch.tensor([pair.weight for pair in pairs]),
            "margins": torch.tensor([pair.margin for pair in pairs]),
        }

    return collate
