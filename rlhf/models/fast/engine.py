"""Load a backbone: plain (any architecture, through the libraries) or fast (the same numbers, for some)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from rlhf.models.fast.backbone import FastBackbone
from rlhf.models.policy.backbone import Backbone

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

    Raises:
        UserError: as `Backbone.load`.
    """
    plain = Backbone.load(base, adapters, trainable=trainable, dtype=dtype, device=device)
    if engine == "plain":
        return plain
    if reason := FastBackbone.refusal(plain.model):
        _log.warning("%s; the plain engine is used", reason)
        return plain
    return FastBackbone(plain.model, plain.tokenizer)
