"""Load a backbone: plain (any architecture, through the libraries) or fast (the same numbers, for some)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.models.fast.backbone import FastBackbone
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.checks import Checks, not_reproduced

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
    if engine == "fast":
        fast = f"{decided} says that the fast engine disagrees" if "fast" not in agreed(decided) else over(plain)
        reason = fast if isinstance(fast, str) else checks.refusal(fast, adapters, trainable)
        if reason is None and isinstance(fast, FastBackbone):
            return fast
        _log.warning("%s; the plain engine is used", reason)
    if reason := checks.refusal(plain, adapters, trainable):
        raise UserError(not_reproduced(base, reason))
    return plain


def agreed(decided: Path) -> Sequence[str]:
    """Read which engines agree with the base model; all of them where nothing has been decided."""
    if not decided.is_file():
        return ("fast", "plain")
    found: list[str] = read_json(decided)["engines"]
    return found
