"""The state of a run between two iterations, how it moves on, and its checkpoints.

A checkpoint holds all of it: a run that was killed ends with the bytes of one that was not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from rlhf.core.checkpoint import Checkpoint, Checkpoints
from rlhf.ppo.learner import Learner, Weights
from rlhf.ppo.params import PPOParams
from rlhf.ppo.types import Measures, PPOStats, as_row

Row = dict[str, float | int | str | None]

_ERROR_LIMIT = 0.2  # lm-human-preferences clips the proportional error to +-.2
_PLAIN = ("kl_coef", "misses", "ratio_gap", "first_approx_kl", "sampler_gap")  # fields that go into JSON as they are


def next_kl_coef(params: PPOParams, coef: float, kl: float, episodes: int) -> float:
    """Move the KL coefficient after `episodes` episodes with a mean KL of `kl` nats an episode.

    `coef` and the result are in reward units a nat. With `ppo.kl_controller: fixed` it stays; adaptive is proportional
    control towards `kl_target` nats an episode, with `kl_horizon` in episodes:

        error = clip(kl / target - 1, -0.2, 0.2);  coef <- coef * (1 + error * episodes / horizon)

    Ziegler et al. 2019 (arXiv 1909.08593), section 2.2; lm-human-preferences, train_policy.py, `AdaptiveKLController`.
    """
    if params.kl_controller == "fixed":
        return coef
    error = min(max(kl / params.kl_target - 1.0, -_ERROR_LIMIT), _ERROR_LIMIT)
    return coef * (1.0 + error * episodes / params.kl_horizon)


@dataclass(frozen=True, slots=True)
class Kept:
    """Weights that the run may go back to."""

    weights: Weights
    iteration: int  # updates they have seen
    reward: float  # on validation prompts; 0 where it was not measured


@dataclass
class Progress:
    """The state of a run between two iterations; the Learner holds weights and optimiser."""

    kl_coef: float  # of the next iteration's rewards, reward units a nat
    iteration: int = 0  # iterations done, which is the number of the next one
    rows: list[Row] = field(default_factory=list)
    sound: Kept | None = None  # the last policy whose episodes passed every guard
    best: Kept | None = None  # the policy with the highest validation reward, if that is measured
    misses: int = 0  # validations in a row without a new best
    ratio_gap: float = 0.0  # the largest |ratio - 1| that the self-checks saw
    first_approx_kl: float = 0.0  # the largest |approx-KL| that they saw, nats a token
    sampler_gap: float = 0.0  # the largest difference between the sampler's logprobs and the forward's, nats

    @classmethod
    def start(cls, params: PPOParams) -> "Progress":
        """Begin a run."""
        return cls(kl_coef=params.kl_coef)

    @property
    def last_score(self) -> float | None:
        """Return the mean score of the iteration before, if there was one."""
        score = self.rows[-1]["score"] if self.rows else None
        return score if isinstance(score, float) else None

    def advance(
        self, params: PPOParams, measures: Measures, stats: PPOStats, *, lr: float, validation: float | None
    ) -> None:
        """Finish an iteration: append its row, move the KL coefficient, remember the self-checks, count it.

        `lr` is the learning rate that the iteration used, `validation` the reward on validation prompts before it.
        """
        row: Row = {"iteration": self.iteration, "kl_coef": self.kl_coef, "lr": lr, "validation_reward": validation}
        row |= {name: finite(value) for name, value in (as_row(measures) | as_row(stats)).items()}
        self.rows.append(row)
        self.kl_coef = next_kl_coef(params, self.kl_coef, measures.kl, params.batch)
        self.ratio_gap = max(self.ratio_gap, stats.first_ratio_gap)
        self.first_approx_kl = max(self.first_approx_kl, abs(stats.first_approx_kl))
        self.sampler_gap = max(self.sampler_gap, measures.sampler_gap)
        self.iteration += 1

    def summary(self) -> dict[str, object]:
        """Sum the run up as metrics by name; None where there is no number."""
        scores = [(row["score"], row["iteration"]) for row in self.rows if isinstance(row["score"], float)]
        best = max(scores, key=lambda pair: pair[0], default=(None, None))
        return {
            "iterations": len(self.rows),
            "score_first": self.rows[0]["score"] if self.rows else None,
            "score_best": best[0],
            "score_best_iteration": best[1],
            "validation_reward_best": self.best.reward if self.best else None,
            "kl_coef_final": self.kl_coef,
            "check_ratio_gap": self.ratio_gap,
            "check_approx_kl": self.first_approx_kl,
            "check_sampler_gap": self.sampler_gap,
        }


def finite(value: float) -> float | None:
    """Return a number as it goes into a file: None for NaN and infinities."""
    return value if math.isfinite(value) else None


def save(checkpoints: Checkpoints, progress: Progress, learner: Learner) -> None:
    """Write a checkpoint of the whole run.

    Raises:
        UserError: the disk is full.
    """
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
    """Take up a run where `save` left it; the learner gets its weights and its optimiser back."""
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
