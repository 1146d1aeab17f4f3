"""Turn rows with one reply each into comparisons, by prompt: replies with a true or false label, replies with a
score."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rlhf.prepare.columns import Columns
from rlhf.prepare.conversations import asked_and_answered, checked, split_reply, with_system
from rlhf.prepare.finish import annotator, needed
from rlhf.prepare.literals import as_label, as_number
from rlhf.prepare.notes import Notes
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.read_rankings import ranking_pairs
from rlhf.prepare.rows import BadRow, Comparison, Prompt, RawRow, RuleBroken

Key = tuple[Prompt, str]  # a prompt, and who judged


@dataclass(frozen=True, slots=True)
class Judged:
    """A reply and its rank: the lower, the better."""

    row: RawRow
    reply: str
    rank: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """How rows of one form are ranked and grouped."""

    rank: Callable[[RawRow], float]
    compares: Callable[[list[Judged]], bool]  # whether the replies to one prompt say anything of each other
    alone: str  # what is said of a reply that compares with nothing


def unpaired_pairs(rows: Iterable[RawRow | BadRow], columns: Columns, notes: Notes) -> Iterator[Comparison | BadRow]:
    """Make comparisons of replies labelled true with those to the same prompt labelled false, by one annotator where
    there is one; weights as in a ranking. A reply without a counterpart is a bad row."""
    name = columns.label or "label"
    grouping = Grouping(
        rank=lambda row: 1.0 if as_label(name, needed(row.values, name)) else 2.0,
        compares=lambda group: len({one.rank for one in group}) > 1,
        alone=f"no reply to the prompt has another {name}; the reward model, DPO and IPO learn from pairs, and no "
        "method here learns from single labels, as KTO does",
    )
    yield from _grouped(rows, columns, grouping, notes)


def rated_pairs(rows: Iterable[RawRow | BadRow], columns: Columns, notes: Notes) -> Iterator[Comparison | BadRow]:
    """Make comparisons of replies to the same prompt by their scores, the highest best, equal ones ties; weights as in
    a ranking. A prompt with one reply is a bad row."""
    name = columns.score or "score"
    grouping = Grouping(
        rank=lambda row: -as_number(name, needed(row.values, name)),
        compares=lambda group: len(group) > 1,
        alone="the only reply to its prompt, and one score compares with nothing",
    )
    yield from _grouped(rows, columns, grouping, notes)


def _grouped(
    rows: Iterable[RawRow | BadRow], columns: Columns, grouping: Grouping, notes: Notes
) -> Iterator[Comparison | BadRow]:
    groups: dict[Key, list[Judged]] = {}
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            prompt, reply = _asked(row, columns, notes)
            judged = Judged(row, reply, grouping.rank(row))
            groups.setdefault((prompt, annotator(row.values, columns) or ""), []).append(judged)
        except RuleBroken as broken:
            yield broken.bad_row(row)
    whole = sum(map(grouping.compares, groups.values()))
    counted = f"{whole} of {len(groups)} prompts have replies to compare"
    notes.say(counted)
    for (prompt, judge), group in groups.items():
        if grouping.compares(group):
            ranking = Ranking(prompt, tuple(one.reply for one in group), tuple(one.rank for one in group), judge)
            yield from ranking_pairs(group[0].row, ranking, Columns(annotator=columns.annotator))
            continue
        for one in group:
            yield RuleBroken("lone_reply", f"{grouping.alone}; {counted}").bad_row(one.row)


def _asked(row: RawRow, columns: Columns, notes: Notes) -> tuple[Prompt, str]:
    """Read prompt and reply: a column each, or a conversation whose last turn is the reply."""
    if columns.reply:
        prompt, (reply,) = asked_and_answered(row, columns, {columns.reply: needed(row.values, columns.reply)}, notes)
        return prompt, reply
    name = columns.conversation or "messages"
    before, reply = split_reply(name, needed(row.values, name), notes)
    system = needed(row.values, columns.system) if columns.system else None
    return checked(with_system(system, before), name, notes), reply
