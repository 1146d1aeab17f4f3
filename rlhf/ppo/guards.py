"""Guards that stop a run before it is lost (numbers that are not finite, drift, collapse, spikes); self-checks."""

import math
from dataclasses import dataclass
from typing import Literal

from rlhf.core.errors import UserError
from rlhf.ppo.types import Measures

Reason = Literal[
    "nonfinite_score",
    "nonfinite_rollout",
    "nonfinite_loss",
    "nonfinite_gradient",
    "kl_limit",
    "entropy_collapse",
    "score_spike",
]


class Tripped(Exception):  # noqa: N818 - a reason to stop, not an error
    """A guard says stop. `by_update`: the policy that sampled is sound, and its update went wrong."""

    def __init__(self, reason: Reason, detail: str, *, by_update: bool) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.by_update = reason, detail, by_update


class SelfCheckError(UserError):
    """Before anything was updated the ratio was not 1: forward passes disagree, and every number would be wrong."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits beyond which a run stops; None is no limit."""

    kl: float | None  # nats an episode
    entropy: float | None  # nats a token, least
    score_jump: float | None  # score units between one iteration's mean and the next


def check_rollout(now: Measures, last_score: float | None, limits: Limits) -> None:
    """Check the policy by a batch of its episodes.

    Raises:
        Tripped: its scores or logprobs are not finite, its KL is above the limit, its entropy below the least, or
            its mean score jumped from `last_score`, that of the iteration before.
    """
    if not (math.isfinite(now.score) and math.isfinite(now.score_std)):
        raise Tripped("nonfinite_score", f"mean score {now.score}", by_update=False)
    for name in ("kl", "kl_k3", "entropy", "sampler_gap"):
        if not math.isfinite(getattr(now, name)):
            raise Tripped("nonfinite_rollout", f"{name} is {getattr(now, name)}", by_update=False)
    if limits.kl is not None and now.kl > limits.kl:
        raise Tripped("kl_limit", f"KL {now.kl:.4g} nats, limit {limits.kl:g}", by_update=False)
    if limits.entropy is not None and now.entropy < limits.entropy:
        detail = f"entropy {now.entropy:.4g} nats a token, least {limits.entropy:g}"
        raise Tripped("entropy_collapse", detail, by_update=False)
    if limits.score_jump is not None and last_score is not None and abs(now.score - last_score) > limits.score_jump:
        detail = f"mean score {last_score:.4g} -> {now.score:.4g} in one iteration, largest jump {limits.score_jump:g}"
        raise Tripped("score_spike", detail, by_update=False)


def check_loss(loss: float) -> None:
    """Check the loss of a minibatch, before its gradients are applied.

    Raises:
        Tripped: it is not finite.
    """
    if not math.isfinite(loss):
        raise Tripped("nonfinite_loss", f"loss {loss}", by_update=True)


def check_gradient(norm: float) -> None:
    """Check the norm of a minibatch's gradient, before it is applied.

    Raises:
        Tripped: it is not finite.
    """
    if not math.isfinite(norm):
        raise Tripped("nonfinite_gradient", f"gradient norm {norm}", by_update=True)


def check_first_minibatch(ratio_gap: float, approx_kl: float, *, tolerance: float, temperature: float) -> None:
    """Check, before an iteration moves its first weights, that forward passes agree: the self-check.

    Raises:
        SelfCheckError: the ratio is not 1, or approx-KL not 0, within `tolerance` (`allowed`).
    """
    limit = allowed(tolerance, temperature)
    if not (ratio_gap <= limit and abs(approx_kl) <= limit):
        raise SelfCheckError(
            f"ppo self-check: before any update the ratio is off 1 by {ratio_gap:.3g}, approx-KL {approx_kl:.3g}; "
            f"ppo.ratio_tolerance allows {_shown(tolerance, temperature)}. The passes of rollout and training "
            "disagree: this is a fault of the program, or of low precision (runtime.dtype)"
        )


def check_sampler(gap: float, *, tolerance: float, temperature: float) -> None:
    """Check that what was sampled is what is trained.

    Raises:
        SelfCheckError: the sampler's logprobs and the forward's differ by more than `tolerance` nats (`allowed`).
    """
    if math.isfinite(gap) and gap > allowed(tolerance, temperature):
        raise SelfCheckError(
            f"ppo self-check: the sampler's logprobs are off the forward's by {gap:.3g} nats; ppo.sampler_tolerance "
            f"allows {_shown(tolerance, temperature)} (padding, positions or temperature differ, or low precision)"
        )


def allowed(tolerance: float, temperature: float) -> float:
    """Compute the tolerance at a temperature from the one at temperature 1.

    Logits are divided by the temperature, and their rounding errors with them: two passes that agree to 1e-5 at
    temperature 1 agree to 1e-4 at 0.1. Above 1 the tolerance stays as it is.
    """
    return tolerance / min(1.0, temperature)


def _shown(tolerance: float, temperature: float) -> str:
    limit = f"{allowed(tolerance, temperature):.3g}"
    return limit if temperature >= 1 else f"{limit} ({tolerance:g} / ppo.temperature {temperature:g})"
