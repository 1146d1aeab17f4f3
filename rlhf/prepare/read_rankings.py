"""Turn rows that rank several responses into pairs.

A row is {"prompt": text, "responses": [text, ...], "ranks": [number, ...], "annotator": text}; rank 1 is the best,
equal ranks are ties, and the annotator may be left out. In CSV the two lists are JSON.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeGuard

from rlhf.prepare.dialogues import column_pair
from rlhf.prepare.params import ColumnParams
from rlhf.prepare.rankings import Ranking, preferences
from rlhf.prepare.rows import BadRow, Comparison, RawRow

_COLUMNS = ColumnParams(prompt="prompt", extra=None, chosen="chosen", rejected="rejected")


def ranking_pairs(row: RawRow) -> Iterator[Comparison | BadRow]:
    """Make all preferences of a ranking, each with its weight (`rlhf.prepare.rankings`); a row that ranks nothing is
    bad."""
    ranking = read_ranking(row)
    if isinstance(ranking, BadRow):
        yield ranking
        return
    found = preferences(ranking)
    if not found:
        yield BadRow(row.origin, "tie", "all responses have the same rank, or are the same text", dict(row.values))
    for one in found:
        values = {**row.values, "chosen": one.chosen, "rejected": one.rejected}
        pair = column_pair(RawRow(row.origin, values), _COLUMNS)
        if isinstance(pair, Comparison):
            pair = replace(pair, weight=one.weight, annotator=ranking.annotator or None)
        yield pair


def read_ranking(row: RawRow) -> Ranking | BadRow:
    """Read a row as a ranking, or say why it is none."""
    values = row.values
    if missing := [name for name in ("prompt", "responses", "ranks") if name not in values]:
        reason = f"no column {missing[0]!r}; found {', '.join(map(str, sorted(values)))}"
        return BadRow(row.origin, "missing_column", reason, dict(values))
    prompt, annotator = values["prompt"], values.get("annotator")
    given, places = _list(values["responses"]), _list(values["ranks"])
    responses = [item for item in given if isinstance(item, str)]
    ranks = [float(item) for item in places if _is_rank(item)]
    rule, reason = "wrong_type", ""
    if not isinstance(prompt, str) or not isinstance(annotator, str | None):
        reason = f"prompt and annotator: expected text, found {prompt!r:.60} and {annotator!r:.60}"
    elif not responses or len(responses) < len(given):
        reason = f"responses: expected a list of texts, found {values['responses']!r:.60}"
    elif not ranks or len(ranks) < len(places):
        reason = f"ranks: expected a list of numbers, found {values['ranks']!r:.60}"
    elif len(responses) != len(ranks) or len(ranks) < 2:
        reason = f"expected two responses or more, and a rank each: {len(responses)} and {len(ranks)}"
    elif any(not item.strip() for item in responses):
        rule, reason = "empty_reply", "responses: one of them has no text"
    else:
        return Ranking(prompt, tuple(responses), tuple(ranks), annotator or "")
    return BadRow(row.origin, rule, reason, dict(values))


def _list(value: object) -> list[object]:
    """A list, or the list that a text holds as JSON; empty where it is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return value if isinstance(value, list) else []


def _is_rank(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
