"""Load a backbone: plain (any architecture, through the libraries) or fast (the same numbers, for some)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.models.fast.backbone import FastBackbone
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.conformance import allowed, ask, compare
from rlhf.models.policy.probe import Probe, draw_probe
from rlhf.models.policy.trained import check_training
from rlhf.models.policy.truth import Truth
from rlhf.models.text.context import context_of
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.model_folder import read_config

Engine = Literal["plain", "fast"]

_log = logging.getLogger(__name__)


def load_backbone(
    base: Path,
    adapters: Mapping[str, Path],
    *,
    engine: Engine,
    trainable: Sequence[str] = (),
    dtype: torch.dtype,
    device: torch.device | str,
) -> Backbone:
    """Load as `Backbone.load` does. What "fast" has no path for gets the plain backbone, with a line in the log.

    Nothing is checked: `load_checked` is for what a run rests on.

    Raises:
        UserError: as `Backbone.load`.
    """
    plain = Backbone.load(base, adapters, trainable=trainable, dtype=dtype, device=device)
    if engine == "plain":
        return plain
    fast = over(plain)
    if isinstance(fast, str):
        _log.warning("%s; the plain engine is used", fast)
        return plain
    return fast


def over(plain: Backbone) -> FastBackbone | str:
    """Make the fast engine over the same weights, or say why there is none."""
    return FastBackbone.refusal(plain.model) or FastBackbone(plain.model, plain.tokenizer)


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


def load_checked(
    base: Path,
    adapters: Mapping[str, Path],
    *,
    engine: Engine,
    trainable: Sequence[str] = (),
    dtype: torch.dtype,
    device: torch.device | str,
    decided: Path,
) -> Backbone:
    """Load as `load_backbone` does an engine that computes the model's own numbers under each of the adapters.

    `decided`: what the stage conformance has found of the base model; where it is not there, this check alone decides.
    Where the fast engine disagrees the plain one is taken, with a line in the log.

    Raises:
        UserError: as `Backbone.load`; or the plain engine disagrees: the largest gap is named.
    """
    checks = Checks.of(base, dtype=dtype, device=device)
    plain = Backbone.load(base, adapters, trainable=trainable, dtype=dtype, device=device)
    once = {folder: name for name, folder in adapters.items()}
    once |= {adapters[name]: name for name in trainable}  # of two names for one folder the one that is trained
    of: list[tuple[str | None, str]] = [(name, f"with the adapter of {folder}") for folder, name in once.items()]

    def refusal(backbone: Backbone) -> str | None:
        for name, where in of or [(None, "without an adapter")]:
            if reason := checks.refuse(backbone, name, trained=name in trainable):
                return f"{where}: {reason}"
        return None

    if engine == "fast":
        fast = f"{decided} says that the fast engine disagrees" if "fast" not in agreed(decided) else over(plain)
        reason = fast if isinstance(fast, str) else refusal(fast)
        if reason is None and isinstance(fast, FastBackbone):
            return fast
        _log.warning("%s; the plain engine is used", reason)
    if reason := refusal(plain):
        raise UserError(f"{base}: the model's own probabilities are not reproduced {reason}")
    return plain


def agreed(decided: Path) -> Sequence[str]:
    """Read which engines agree with the base model; all of them where nothing has been decided."""
    if not decided.is_file():
        return ("fast", "plain")
    found: list[str] = read_json(decided)["engines"]
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
