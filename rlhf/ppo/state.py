"""Where a run stands: everything that a checkpoint must hold to end with the same bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from rlhf.core.checkpoint import Checkpoint, Checkpoints
from rlhf.ppo.learner import Learner, Weights
from rlhf.ppo.types import Measures, PPOStats, as_row

Row = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True)
class Kept:
    """Weights worth going back to."""

    weights: Weights
    iteration: int  # updates they have seen
    reward: float  # on held-out prompts; 0 where that was not looked at


@dataclass
class Progress:
    """The state of a run between two iterations; the Learner holds weights and optimiser."""

    kl_coef: float
    iteration: int = 0
    rows: list[Row] = field(default_factory=list)
    sound: Kept | None = None  # the last policy whose episodes passed every guard
    best: Kept | None = None  # the best on held-out prompts, if those are looked at
    misses: int = 0  # held-out looks in a row that were not the best
    ratio_gap: float = 0.0  # the largest that the self-checks saw
    first_approx_kl: float = 0.0  # the same of approx-KL
    sampler_gap: float = 0.0  # the largest difference between the sampler's logprobs and the forward's, nats

    @property
    def last_score(self) -> float | None:
        """Mean score of the iteration before, if there was one."""
        score = self.rows[-1]["score"] if self.rows else None
        return score if isinstance(score, float) else None


_PLAIN = ("kl_coef", "misses", "ratio_gap", "first_approx_kl", "sampler_gap")  # JSON as they are


def finite(value: float) -> float | None:
    """A number for a file: None where there is none."""
    return value if math.isfinite(value) else None


def make_row(
    iteration: int, measures: Measures, stats: PPOStats, *, kl_coef: float, lr: float, validation: float | None
) -> Row:
    """One line of the curves. `kl_coef` and `lr` are those this iteration used."""
    row: Row = {"iteration": iteration, "kl_coef": kl_coef, "lr": lr, "validation_reward": validation}
    row |= {name: finite(value) for name, value in as_row(measures).items()}
    return row | {name: finite(value) for name, value in as_row(stats).items()}


def save(checkpoints: Checkpoints, progress: Progress, learner: Learner) -> None:
    """Save everything. Raises UserError if the disk is full."""
    tensors: dict[str, Tensor] = _prefixed("now", learner.weights()) | _prefixed("adam", learner.optimizer_state())
    state: dict[str, object] = {name: getattr(progress, name) for name in _PLAIN}
    state["columns"] = list(progress.rows[0]) if progress.rows else []  # JSON is written with sorted keys
    state["rows"] = [list(row.values()) for row in progress.rows]
    for name, kept in (("sound", progress.sound), ("best", progress.best)):
        if kept is not None:
            tensors |= _prefixed(name, kept.weights)
            state[name] = {"iteration": kept.iteration, "reward": kept.reward}
    checkpoints.save(progress.iteration, tensors, state)


def restore(checkpoint: Checkpoint, learner: Learner) -> Progress:
    """Take up the run where `save` left it."""
    learner.restore_weights(_under("now", checkpoint.tensors))
    learner.restore_optimizer(_under("adam", checkpoint.tensors))
    columns, rows = checkpoint.state["columns"], checkpoint.state["rows"]
    return Progress(
        iteration=checkpoint.step,
        rows=[dict(zip(columns, row, strict=True)) for row in rows],
        sound=_kept("sound", checkpoint, learner),
        best=_kept("best", checkpoint, learner),
        **{name: checkpoint.state[name] for name in _PLAIN},
    )


def _kept(name: str, checkpoint: Checkpoint, learner: Learner) -> Kept | None:
    about = checkpoint.state.get(name)
    if about is None:
        return None
    device = next(iter(learner.parameters.values())).device
    weights = {key: value.to(device) for key, value in _under(name, checkpoint.tensors).items()}
    return Kept(weights, about["iteration"], about["reward"])


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
