"""Write what changed, for a terminal or as Markdown for a pull request."""

from collections.abc import Iterator, Sequence

from rlhf.diff.metrics import Change
from rlhf.diff.run import Difference
from rlhf.runs.headlines import FAMILYWISE
from rlhf.runs.text_table import number, text_table

HEAD = ("metric", "before", "after", "change", "another seed: up to", "")


def write(found: Difference, *, markdown: bool) -> str:
    """Lay out numbers, then data. The first line says how many numbers changed by more than another seed's do."""
    blocks = [[_headline(found)], *_numbers(found, markdown), *_data(found, markdown)]
    return ("\n\n" if markdown else "\n").join("\n".join(block) for block in blocks)


def _headline(found: Difference) -> str:
    judged = found.numbers.headlines
    more = [one.name for one in judged if one.exceeds]
    changed = sum(one.by != 0 for one in judged)
    if found.table.startswith("spread unknown"):
        return f"{changed} of {len(judged)} headline numbers changed since {found.commit}; {found.table}"
    names = f": {', '.join(more)}" if more else ""
    return (
        f"{len(more)} of {len(judged)} headline numbers changed since {found.commit} by more than another seed changes "
        f"them{names} ({found.table}, familywise {FAMILYWISE:.0%})"
    )


def _numbers(found: Difference, markdown: bool) -> Iterator[Sequence[str]]:
    if found.numbers.headlines:
        yield text_table(HEAD, [_row(one) for one in found.numbers.headlines], markdown=markdown)
    more = [one for one in found.numbers.others if one.exceeds]
    if more:
        yield ["Other numbers that changed by more, came or went:"]
        yield text_table(HEAD, [_row(one) for one in more], markdown=markdown)
    within = [one for one in found.numbers.others if one.exceeds is False]
    unknown = [one for one in found.numbers.others if one.exceeds is None]
    if within:
        yield [f"{len(within)} other numbers changed by no more than another seed changes them."]
    if unknown:
        yield [f"{len(unknown)} other numbers changed, and what another seed gives of them is unknown."]


def _row(one: Change) -> tuple[str, ...]:
    said = {True: "EXCEEDS", False: "within", None: "unknown"}[one.exceeds] if one.by != 0 else "the same"
    if one.by is None:
        said = "new" if one.before is None else "gone"
    by = "–" if one.by is None else f"{one.by:+.4g}"
    return (one.name, number(one.before), number(one.after), by, number(one.limit), said)


def _data(found: Difference, markdown: bool) -> Iterator[Sequence[str]]:
    if not found.rows:
        return
    rows = [(what, _count(old), _count(new), "" if old == new else _change(old, new)) for what, old, new in found.rows]
    yield text_table(("data", "before", "after", "change"), rows, markdown=markdown)
    if found.moved is None:
        yield [f"Rows that changed split: unknown, since {found.why[0]}."]
        return
    if not found.moved:
        yield ["Every row is in the split that it was in."]
        return
    yield text_table(
        ("rows", "were in", "are in"), [(str(n), old, new) for (old, new), n in found.moved.items()], markdown=markdown
    )
    reason = (
        "; ".join(found.why) if found.why else "no parameter that decides a split changed: the rows or the code did"
    )
    yield [f"What decides a row's split: {reason}."]


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _change(old: int | None, new: int | None) -> str:
    return "" if old is None or new is None else f"{new - old:+,}"
