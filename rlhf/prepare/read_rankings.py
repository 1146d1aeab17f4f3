"""Turn rows that rank or rate several responses into comparisons.

A ranking is {"prompt": text, "responses": [text, ...], "ranks": [number, ...], "annotator": text}; rank 1 is the best,
equal ranks are ties, and the annotator may be left out. A rating has `scores` in place of ranks, the highest the best,
or a score beside each response, as [{"text": ..., "score": ...}]; ranks may stand there too. In CSV the lists are JSON.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rlhf.prepare.columns import USUAL, Columns
from rlhf.prepare.conversations import asked_and_answered
from rlhf.prepare.finish import beside, compared, needed
from rlhf.prepare.literals import as_list, as_number
from rlhf.prepare.notes import Notes
from rlhf.prepare.rankings import Ranking, preferences
from rlhf.prepare.rows import BadRow, Comparison, RawRow, RuleBroken

_TEXTS = ("text", "response", "completion", "content", "reply", "answer", "output", "summary")
_SCORES = (*USUAL["score"], "overall_score")
RANKS = USUAL["ranks"]
NO_COLUMNS = Columns()


def read_ranking(row: RawRow, columns: Columns, notes: Notes) -> Ranking:
    """Read a row as a ranking.

    Raises:
        RuleBroken: any rule that a row can break.
    """
    names = (columns.replies or "responses", columns.ranks or "ranks")
    given = needed(row.values, names[0])
    inner = None if columns.ranks else _scores_inside(names[0], given, RANKS)
    texts, places = inner or (_texts(names[0], given), _numbers(names[1], needed(row.values, names[1])))
    return _ranking(row, columns, texts, places, notes)


def read_rating(row: RawRow, columns: Columns, notes: Notes) -> Ranking:
    """Read a row with several rated responses as a ranking, the highest score first.

    Raises:
        RuleBroken: any rule that a row can break.
    """
    name = columns.replies or "responses"
    given = needed(row.values, name)
    inner = _scores_inside(name, given)
    if inner is None:
        scores_name = columns.score or "scores"
        inner = _texts(name, given), _numbers(scores_name, needed(row.values, scores_name))
    responses, scores = inner
    return _ranking(row, columns, responses, [-score for score in scores], notes)


def ranking_pairs(row: RawRow, ranking: Ranking, columns: Columns) -> Iterator[Comparison | BadRow]:
    """Make all preferences of a ranking, each with its weight (`rlhf.prepare.rankings`); one that ranks nothing is a
    bad row."""
    try:
        found = preferences(ranking)
        if not found:
            raise RuleBroken("tie", "all responses have the same rank, or are the same text")
        said = beside(row, columns)
    except RuleBroken as broken:
        yield broken.bad_row(row)
        return
    for one in found:
        try:
            made = compared(row, ranking.prompt, one.chosen, one.rejected, NO_COLUMNS)
        except RuleBroken as broken:
            yield broken.bad_row(row)
        else:
            yield replace(
                made, weight=one.weight * said.weight, margin=said.margin, kind=said.kind, annotator=said.annotator
            )


def _ranking(row: RawRow, columns: Columns, given: list[object], ranks: list[float], notes: Notes) -> Ranking:
    if len(given) != len(ranks) or len(ranks) < 2:
        raise RuleBroken(
            "wrong_type", f"expected two responses or more, and a number for each: {len(given)} and {len(ranks)}"
        )
    name = columns.replies or "responses"
    replies = {f"{name}[{index}]": one for index, one in enumerate(given)}
    prompt, responses = asked_and_answered(row, columns, replies, notes)
    return Ranking(prompt, tuple(responses), tuple(ranks), beside(row, columns).annotator or "")


def _texts(name: str, value: object) -> list[object]:
    """Return a list of texts, or of mappings with a text each."""
    found = as_list(value)
    if found is None:
        raise RuleBroken(
            "wrong_type", f"{name}: expected a list of texts, found {value!r:.60} ({type(value).__name__})"
        )
    return [text_of(one) for one in found]


def text_of(one: object) -> object:
    """Return the text of a mapping that holds just one; any other value as it is, to be checked as a reply."""
    texts = [one[key] for key in _TEXTS if key in one] if isinstance(one, Mapping) and "role" not in one else []
    return texts[0] if len(texts) == 1 else one


def _numbers(name: str, value: object) -> list[float]:
    found = as_list(value)
    if found is None:
        raise RuleBroken(
            "wrong_type", f"{name}: expected a list of numbers, found {value!r:.60} ({type(value).__name__})"
        )
    return [as_number(f"{name}[{index}]", one) for index, one in enumerate(found)]


def _scores_inside(name: str, value: object, known: Sequence[str] = _SCORES) -> tuple[list[object], list[float]] | None:
    """Return texts and scores of a list of mappings that have both; None where it is another list."""
    found = as_list(value)
    if not found or not all(isinstance(one, Mapping) for one in found):
        return None
    rows = [one for one in found if isinstance(one, Mapping)]
    keys = [key for key in known if any(key in one for one in rows)]
    if not keys:
        return None
    if len(keys) > 1:
        raise RuleBroken(
            "wrong_type", f"{name}: each response has several scores ({', '.join(keys)}); keep one of them"
        )
    scores = [as_number(f"{name}[{index}].{keys[0]}", one.get(keys[0])) for index, one in enumerate(rows)]
    return [text_of({k: v for k, v in one.items() if k != keys[0]}) for one in rows], scores
