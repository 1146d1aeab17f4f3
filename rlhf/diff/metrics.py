"""Which changes of metrics exceed what another seed gives, and which do not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlhf.runs.headlines import HEADLINES
from rlhf.runs.seed_table import SeedTable, numbers_of
from rlhf.runs.spread import largest_change


@dataclass(frozen=True, slots=True)
class Change:
    """A metric before and after; None where there is none. `limit` is the most that another seed changes it by, None
    where that is unknown."""

    name: str
    before: float | None
    after: float | None
    limit: float | None

    @property
    def by(self) -> float | None:
        """The difference, where both are numbers."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def exceeds(self) -> bool | None:
        """Say whether it is more than another seed's; a number that came or went is. None where nobody knows."""
        if self.by is None:
            return True
        return None if self.limit is None else abs(self.by) > self.limit


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed: the headline numbers, changed or not, and all others that changed."""

    headlines: list[Change]
    others: list[Change]


def changes(before: Mapping[str, Any], after: Mapping[str, Any], table: SeedTable | None) -> Changes:
    """Compare two runs' metrics. Headline numbers are judged together, and all others together."""
    old, new = numbers_of(before), numbers_of(after)
    names = [name for name in HEADLINES if name in old or name in new]
    others = sorted(name for name in {*old, *new} - set(HEADLINES) if old.get(name) != new.get(name))
    judged = len(set(table.names()) - set(HEADLINES)) if table else 0
    return Changes(_judged(names, old, new, table, len(names)), _judged(others, old, new, table, judged))


def _judged(
    names: Iterable[str], old: Mapping[str, float], new: Mapping[str, float], table: SeedTable | None, together: int
) -> list[Change]:
    columns = table.columns(names) if table else {}
    return [
        Change(name, old.get(name), new.get(name), largest_change(columns[name], together) if name in columns else None)
        for name in names
    ]
