"""Read preference pairs as `prepare` wrote them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.conversation import shown
from rlhf.core.errors import UserError
from rlhf.models.text.control import unsigned


@dataclass(frozen=True, slots=True)
class TextPair:
    """One comparison: the annotator preferred `chosen` to `rejected` as a reply to `prompt`."""

    prompt: str
    chosen: str
    rejected: str
    kind: str | None  # of prompt, where the source says so
    turns: int  # human turns in the prompt
    weight: float = 1.0  # in training: below 1 where several pairs come of one ranking
    margin: float = 0.0  # by which the chosen reward should lead, in logits
    shown: str = ""  # the prompt as readers see it, where that is not its text
    target: float = 1.0  # probability that `chosen` is the better one, by those who were asked; one half = a tie
    labelled_by: str | None = None  # kind of annotator, where the project asked
    asked: str = ""  # the last turn of a conversation, where the row has its turns

    @property
    def prompt_shown(self) -> str:
        """Return the prompt for readers."""
        return self.shown or unsigned(self.prompt)


def read_pairs(path: Path) -> list[TextPair]:
    """Read a split of pairs.

    Raises:
        UserError: the file is missing or empty, or a row lacks a key or holds another type (file:line, key, found).
    """
    pairs = [_pair(path, number, row) for number, row in iter_jsonl(path)]
    if not pairs:
        raise UserError(f"{path}: no pairs; at least one is needed in each of train, validation and test")
    return pairs


def _pair(path: Path, number: int, row: dict[str, object]) -> TextPair:
    allowed: tuple[tuple[str, type | tuple[type, ...]], ...] = (
        ("prompt", str), ("chosen", str), ("rejected", str), ("kind", (str, type(None))), ("turns", int),
    )  # fmt: skip
    for key, kind in allowed:
        if not isinstance(row.get(key), kind) or row.get(key) is True:  # True is an int to Python
            found = repr(row[key])[:40] if key in row else "nothing"
            raise UserError(f"{path}:{number}: {key}: expected {_names(kind)}, found {found}")
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise UserError(f"{path}:{number}: weight: expected a number above 0, found {weight!r:.40}")
    margin = row.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < math.inf:
        raise UserError(f"{path}:{number}: margin: expected a number of 0 or more, found {margin!r:.40}")
    checked: dict[str, Any] = {key: row[key] for key, _ in allowed}
    turns = row.get("conversation")
    asked = str(turns[-1]["content"]) if isinstance(turns, list) and turns else ""
    checked |= {"shown": shown(row, "") if asked else "", "asked": asked}
    target = row.get("target", 1.0)
    if isinstance(target, bool) or not isinstance(target, int | float) or not 0.5 <= target <= 1:
        raise UserError(f"{path}:{number}: target: expected a number from 0.5 to 1, found {target!r:.40}")
    if target != 1 and margin:
        raise UserError(f"{path}:{number}: margin: found {margin:g} beside a target of {target:g}; one of them only")
    by = row.get("labelled_by")
    by = by if isinstance(by, str) else None
    return TextPair(**checked, weight=float(weight), margin=float(margin), target=float(target), labelled_by=by)


def _names(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if k is type(None) else k.__name__ for k in kinds)


def unique_prompts(pairs: Sequence[TextPair]) -> list[str]:
    """List each prompt once, in order of first appearance."""
    return list(dict.fromkeys(pair.prompt for pair in pairs))


def pair_weights(pairs: Sequence[TextPair]) -> Float[Tensor, " N"]:
    """Return the weight of each pair in training."""
    return torch.tensor([pair.weight for pair in pairs], dtype=torch.float64)


def pair_targets(pairs: Sequence[TextPair]) -> Float[Tensor, " N"] | None:
    """Return the probability that each pair's chosen response is the better one; None where all are 1."""
    if all(pair.target == 1 for pair in pairs):
        return None
    return torch.tensor([pair.target for pair in pairs], dtype=torch.float64)


def pair_margins(pairs: Sequence[TextPair]) -> Float[Tensor, " N"] | None:
    """Return the margin of each pair, in logits; None where the data have none."""
    if not any(pair.margin for pair in pairs):
        return None
    return torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
