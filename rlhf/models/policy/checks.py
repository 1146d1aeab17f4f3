"""Hold an engine against the model before anything rests on its numbers: one sequence of steps for every stage."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.conformance import allowed, ask, compare
from rlhf.models.policy.probe import Probe, draw_probe
from rlhf.models.policy.trained import check_training
from rlhf.models.policy.truth import Truth
from rlhf.models.text.context import context_of
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.model_folder import read_config

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checks:
    """What an engine is held against the model with, before anything rests on its numbers."""

    probe: Probe
    nats: float  # that two right computations may be apart

    @classmethod
    def of(cls, base: Path, *, dtype: torch.dtype, device: torch.device | str, longest: int | None = None) -> "Checks":
        """Draw the sequences for the model in `base`; `longest` as in `draw_probe`."""
        probe = draw_probe(load_tokenizer(base), context=context_of(read_config(base)), longest=longest)
        return cls(probe, allowed(base, probe.rows, dtype=dtype, device=device))

    def refuse(self, backbone: Backbone, adapter: str | None, *, trained: bool) -> str | None:
        """Say why the engine cannot be used with an adapter; None where it can. Tensors that no training of the adapter
        moves are named in the log."""
        answers = ask(backbone, self.probe, adapter)
        with backbone.using(adapter):
            gap = compare(answers, Truth(backbone.model), self.probe, self.nats)
        if not gap.agrees or not trained or adapter is None:
            return gap.reason
        movable = check_training(backbone, self.probe, adapter)
        if movable.still:
            _log.warning(
                "adapter %s: no training moves %s: the model does not use them", adapter, _listed(movable.still)
            )
        return movable.reason

    def refusal(self, backbone: Backbone, adapters: Mapping[str, Path], trainable: Sequence[str] = ()) -> str | None:
        """Say under which of the adapters, by name, the engine cannot be used, and why; None where it can under all.
        Without adapters the base alone is tried."""
        once = {folder: name for name, folder in adapters.items()}
        once |= {adapters[name]: name for name in trainable}  # of two names for one folder the one that is trained
        of: list[tuple[str | None, str]] = [(name, f"with the adapter of {folder}") for folder, name in once.items()]
        for name, where in of or [(None, "without an adapter")]:
            if reason := self.refuse(backbone, name, trained=name in trainable):
                return f"{where}: {reason}"
        return None


def load_conforming(
    base: Path, adapters: Mapping[str, Path], *, dtype: torch.dtype, device: torch.device | str
) -> Backbone:
    """Load a plain backbone, none of whose adapters will be trained, that computes the model's own numbers under each
    of them.

    Raises:
        UserError: as `Backbone.load`; or it does not compute them: the largest gap is named.
    """
    backbone = Backbone.load(base, adapters, dtype=dtype, device=device)
    if reason := Checks.of(base, dtype=dtype, device=device).refusal(backbone, adapters):
        raise UserError(not_reproduced(base, reason))
    return backbone


def not_reproduced(base: Path, reason: str) -> str:
    """Word the refusal of a model whose plain engine disagrees."""
    return f"{base}: the model's own probabilities are not reproduced {reason}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
