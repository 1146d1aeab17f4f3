"""The weights that PPO changes, and the optimiser that changes them."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.portable import applied
from rlhf.ppo.actors import Actors
from rlhf.ppo.guards import check_gradient

Weights = dict[str, Tensor]


def learning_rate_factor(iteration: int, iterations: int, schedule: Literal["linear", "constant"]) -> float:
    """Return the share of the starting rate: 1 at iteration 0; "linear" falls to 0 at `iterations`, the end."""
    return 1.0 - iteration / iterations if schedule == "linear" else 1.0


class Learner:
    """Adam over two groups of weights, the policy's LoRA and the value head, each with its own rate.

    Gradients are clipped group by group: early on the value head's are large, and would scale down the policy's if
    one norm were taken of both.
    """

    def __init__(
        self, actors: Actors, *, lr: float, value_lr: float, adam_eps: float, max_grad_norm: float | None
    ) -> None:
        self.parameters = actors.trainable()
        policy = [p for name, p in self.parameters.items() if name.startswith("policy/")]
        value = [p for name, p in self.parameters.items() if name.startswith("value/")]
        self._groups = (policy, value)
        self._rates = (lr, value_lr)
        self._max_grad_norm = max_grad_norm
        self.optimizer = torch.optim.Adam([{"params": policy}, {"params": value}], lr=lr, eps=adam_eps, fused=applied())
        self.set_rate(1.0)

    def set_rate(self, factor: float) -> float:
        """Set both rates to `factor` times their start; return the policy's."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        return self._rates[0] * factor

    def clear(self) -> None:
        """Forget gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def gradient(self) -> Float[Tensor, " N"]:
        """Copy the gradients at hand into one vector, in order of the weights' names; which weights have one never
        changes within a run."""
        return torch.cat([p.grad.flatten() for p in self.parameters.values() if p.grad is not None])

    def set_gradient(self, gradient: Float[Tensor, " N"]) -> None:
        """Put a vector as `gradient` gives it back on the weights that have gradients."""
        found = [p.grad for p in self.parameters.values() if p.grad is not None]
        for grad, part in zip(found, gradient.split([grad.numel() for grad in found]), strict=True):
            grad.copy_(part.view_as(grad))

    def apply(self) -> float:
        """Take one optimiser step with the gradients at hand; return the norm of the policy's before clipping.

        Raises:
            Tripped: a gradient is not finite; nothing was changed.
        """
        limit = float("inf") if self._max_grad_norm is None else self._max_grad_norm
        norms = [float(torch.nn.utils.clip_grad_norm_(group, limit)) for group in self._groups]
        for norm in norms:
            check_gradient(norm)
        self.optimizer.step()
        # A fused step leaves no trace in the version counters, by which the fast engine's merged weights follow.
        torch.autograd.graph.increment_version([*self._groups[0], *self._groups[1]])
        return norms[0]

    def weights(self) -> Weights:
        """Copy the weights."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def restore_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put back weights that `weights` gave."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def optimizer_state(self) -> dict[str, Tensor]:
        """Copy Adam's moments and step counts, by weight name."""
        state = self.optimizer.state
        return {
            f"{name}/{key}": value.detach().clone()
            for name, parameter in self.parameters.items()
            for key, value in state.get(parameter, {}).items()
        }

    def restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `optimizer_state` gave."""
        for name, parameter in self.parameters.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (value := tensors.get(f"{name}/{key}")) is not None:  # none before the first update
                    device = "cpu" if key == "step" else parameter.device
                    self.optimizer.state[parameter][key] = value.to(device).clone()
