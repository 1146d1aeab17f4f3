"""A model's own word: transformers' (and peft's) forward pass as it is, one sequence at a time, without padding.

Nothing of an engine is in it: no packing, no positions of ours, no cache, no head called by itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rlhf.models.policy.probe import Row
from rlhf.models.text.one_line import in_one_line

_ROWS = 1024  # logits in float32 of this many tokens exist at once


@dataclass(frozen=True, slots=True)
class Scored:
    """What the model says of one response. Axes: R response tokens, T all tokens, D what the head reads."""

    logprobs: Float[Tensor, " R"]  # nats, at temperature 1
    entropy: Float[Tensor, " R"]  # nats
    states: Float[Tensor, "T D"] | None  # what its decoder gave; None where that is no single tensor


class Truth:
    """A loaded causal language model, asked the plain way."""

    def __init__(self, model: Any) -> None:
        """`model` stays the caller's, with the adapter that is active in it."""
        self.model = model

    @classmethod
    def load(cls, base: Path, *, dtype: torch.dtype, device: torch.device | str) -> "Truth":
        """Load the folder anew, as anybody would.

        Raises:
            UserError: it cannot be loaded.
        """
        with in_one_line(f"{base}: cannot load the model"):
            model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
            return cls(model.to(device).eval().requires_grad_(False))

    def score(self, row: Row) -> Scored:
        """Score one response, with gradients where they are enabled."""
        prompt, response = row
        ids = torch.tensor([[*prompt, *response]], device=next(self.model.parameters()).device)
        with self._watched_decoder() as seen:
            logits = self.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        parts = [part.float().log_softmax(-1) for part in logits.split(_ROWS)]
        chosen = ids[0, len(prompt) :].unsqueeze(1)
        logprobs = torch.cat([*parts]).gather(1, chosen).squeeze(1)
        entropy = torch.cat([-(part.exp() * part.clamp_min(-1e30)).sum(-1) for part in parts]).detach()
        return Scored(logprobs, entropy, seen[0] if seen else None)

    def scores(self, rows: Sequence[Row]) -> list[Scored]:
        """Score each row, one after the other, without gradients."""
        with torch.no_grad():
            return [self.score(row) for row in rows]

    @contextmanager
    def _watched_decoder(self) -> Iterator[list[Tensor]]:
        """Note the hidden states that the decoder gives to the head."""
        plain: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        seen: list[Tensor] = []

        def note(module: nn.Module, given: object, output: object) -> None:
            states = getattr(output, "last_hidden_state", None)
            if isinstance(states, Tensor):
                seen.append(states.detach()[0])

        decoder = plain.base_model if plain.base_model is not plain else plain.get_decoder()
        handle = decoder.register_forward_hook(note)
        try:
            yield seen
        finally:
            handle.remove()
