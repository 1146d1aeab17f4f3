"""Read values that a table holds as text: lists, numbers, and yes or no."""

import ast
import json
import math
import re
from contextlib import suppress
from decimal import Decimal

from rlhf.prepare.rows import RuleBroken

_LONGEST = 2**20  # characters of a list written as text; Python's parser takes a hundred times as much memory
_NO_COMMA = re.compile(r"[}\]\)]\s*\n?\s*[{\[\(]|array\(|dtype=")
YES = ("true", "1", "yes", "good", "desirable", "chosen", "up")
NO = ("false", "0", "no", "bad", "undesirable", "rejected", "down")


def as_structure(value: object) -> object:
    """Return the list or mapping that a text holds, as JSON or as Python writes it (single quotes, None, True); every
    other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{") or len(value) > _LONGEST:
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return found if isinstance(found, list | dict) else value


def looks_printed(value: object) -> bool:
    """Tell whether a text is a list as numpy prints it, whose commas are lost and which cannot be read back."""
    return isinstance(value, str) and value.lstrip()[:1] == "[" and _NO_COMMA.search(value) is not None


def as_number(name: str, value: object) -> float:
    """Return a finite number, or the one that a text holds (with a decimal point).

    Raises:
        RuleBroken: wrong_type; it is none, or one beyond the range of floats.
    """
    number = math.nan
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):  # no number; a whole number of hundreds of digits
            number = float(value)
    if not math.isfinite(number):
        hint = "; write a decimal point" if isinstance(value, str) and re.fullmatch(r"\s*-?\d+,\d+\s*", value) else ""
        raise RuleBroken("wrong_type", f"{name}: expected a number, found {value!r:.60} ({type(value).__name__}){hint}")
    return number


def as_label(name: str, value: object) -> bool:
    """Return a yes or no: true or false, 1 or 0, or one of the words `YES` and `NO`.

    Raises:
        RuleBroken: wrong_type; it is neither.
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if isinstance(value, int | float | Decimal):
        word = f"{int(value)}" if value in (0, 1) else "no label"
    if word in YES or word in NO:
        return word in YES
    pairs = ", ".join(f"{yes}/{no}" for yes, no in zip(YES, NO, strict=True))
    raise RuleBroken("wrong_type", f"{name}: expected one of {pairs}; found {value!r:.60} ({type(value).__name__})")


def as_list(value: object) -> list[object] | None:
    """Return a list, or the list that a text holds; None where it is neither."""
    found = as_structure(value)
    return found if isinstance(found, list) else None
