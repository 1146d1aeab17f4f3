"""What samples responses, and the native sampler: the default, and the reference for any other.

A sampler other than the native one gives tokens and their logprobs. What training takes ratios against, the entropies
and the values are then computed by the trainer (`rollout.respond`), so that no number of a server enters a loss: its
logprobs are compared with the trainer's, and stop the run where they are another policy's (`freshness`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import Generation
from rlhf.models.policy.settings import Sampling


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled responses, right-padded to the longest. Axes: B episodes, R response tokens."""

    response_ids: Int[Tensor, "B R"]
    mask: Bool[Tensor, "B R"]  # True on sampled tokens, the first end token included
    logprobs: Float[Tensor, "B R"]  # nats, at the sampling temperature; 0 where masked
    ended: Bool[Tensor, " B"]  # whether there is an end token


@runtime_checkable
class Sampler(Protocol):
    """Samples responses with an adapter of the trainer's backbone."""

    @property
    def version(self) -> dict[str, str]:
        """Name the engine with its version, for provenance; empty for the native one."""

    @property
    def previous(self) -> Mapping[str, Tensor]:
        """Return the adapter's weights that sampled before the newest ones, by name; empty where there are none."""

    def publish(self, adapter: str) -> None:
        """Make the adapter's weights, as they are now, those that sample; nothing is done where they are already.

        Raises:
            UserError: it did not get there.
        """

    def generate(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        uniforms: Float[Tensor, "B R"],
    ) -> Generation | Sampled:
        """Sample a response to each prompt; each row's random numbers decide it.

        Raises:
            UserError: no answer, or one that is none.
        """

    def close(self) -> None:
        """Leave nothing behind."""


@dataclass
class NativeSampler:
    """Samples by the backbone's own passes: the same bytes for the same random numbers."""

    backbone: Backbone
    adapter: str = ""

    @property
    def version(self) -> dict[str, str]:
        """Name nothing: the versions of the libraries are in every provenance."""
        return {}

    @property
    def previous(self) -> Mapping[str, Tensor]:
        """Return nothing: no other weights than the trainer's own ever sample."""
        return {}

    def publish(self, adapter: str) -> None:
        """Note the adapter: its weights are the trainer's own."""
        self.adapter = adapter

    def generate(
        self,
        prompt_ids: Int[Tensor, "B P"],
        prompt_mask: Bool[Tensor, "B P"],
        sampling: Sampling,
        *,
        uniforms: Float[Tensor, "B R"],
    ) -> Generation:
        """Sample as `Backbone.generate`, with its entropies and hidden states."""
        return self.backbone.generate(prompt_ids, prompt_mask, sampling, adapter=self.adapter, uniforms=uniforms)

    def close(self) -> None:
        """Do nothing."""
