"""Say one of three things of a run that was made again: same bytes, within what another seed gives, or different."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from rlhf.core.stats import Interval
from rlhf.runs.headlines import FAMILYWISE, HEADLINES, SEEDS
from rlhf.runs.seed_table import STAGES, TABLE, Keys, SeedTable, numbers_of, read_tables, read_tables_here
from rlhf.runs.spread import Judged, judge, left_out
from rlhf.verify.committed import Committed
from rlhf.verify.compare import Compared


class Status(IntEnum):
    """The verdict, as the command's exit status."""

    SAME = 0
    DIFFERENT = 1
    WITHIN = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """The headline numbers beside what another seed gives, or why that is unknown.

    `outside` of `seeds` seeds of the table fall outside when judged by all others; `share` with its 95 % interval.
    """

    profile: str
    judged: Sequence[Judged] = ()
    outside: int = 0
    seeds: int = 0
    share: Interval | None = None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a run; `first` is the first stage that differs, `spread` None where bytes are the same."""

    status: Status
    first: str = ""
    spread: Spread | None = None


def verdict(compared: Compared, spread: Spread | None) -> Verdict:
    """Decide. Only outputs that are there and have other bytes can be another seed's: a missing one never is."""
    if not compared.differences:
        return Verdict(Status.SAME)
    first = compared.differences[0].stage
    whole = all(one.what == "has other bytes" for one in compared.differences)
    within = spread is not None and not spread.unknown and all(one.within for one in spread.judged)
    return Verdict(Status.WITHIN if whole and within else Status.DIFFERENT, first, spread)


def find_spread(committed: Committed, keys: Keys, metrics: Mapping[str, Any], profile: str) -> Spread:
    """Judge a run's headline numbers by the table that belongs to the commit's code and the run's parameters.

    metrics: of the run. The table is the commit's, or the one that lies here now, whichever fits.
    """
    names = [name for name in HEADLINES if name in numbers_of(committed.metrics)]
    if not names:
        return Spread(profile, unknown="none of the headline numbers is measured by these stages")
    table, why = choose(tables_of(committed), keys, profile, [stage for stage in STAGES if stage in committed.lock])
    if table is None:
        return Spread(profile, unknown=why)
    columns = table.columns(names)
    if missing := [name for name in names if name not in columns]:
        return Spread(profile, unknown=f"the table has no {', '.join(missing)}")
    outside, count, share = left_out(columns)
    if share.low is not None and share.low > FAMILYWISE:
        why = f"the rule does not hold for the table's own seeds: {outside} of {count} fall outside when left out"
        return Spread(profile, unknown=why)
    found = {name: value for name, value in numbers_of(metrics).items() if name in columns}
    return Spread(profile, judge(found, columns), outside, count, share)


def tables_of(committed: Committed) -> list[SeedTable]:
    """Read the tables of the commit, and then those that lie in the project now."""
    name = f"{committed.commit.short}:{TABLE}"
    theirs, ours = read_tables(committed.commit.read(TABLE), name), read_tables_here(committed.commit.root / TABLE)
    return [*theirs.values(), *ours.values()]


def choose(
    tables: Sequence[SeedTable], keys: Keys, profile: str, stages: Sequence[str]
) -> tuple[SeedTable | None, str]:
    """Choose the table that belongs to these keys, or say why none does."""
    if not tables:
        return None, f"there is no {TABLE}; `make seed-spread` makes it"
    fitting = [table for table in tables if table.keys.params == keys.params]
    if not fitting:
        return None, f"{TABLE} has no entry for profile {profile} with these parameters"
    current = [table for table in fitting if not keys.changed(table.keys, stages)]
    if not current:
        changed = ", ".join(keys.changed(fitting[0].keys, stages))
        return None, f"{TABLE} is outdated: the code of {changed} has changed since"
    table = max(current, key=lambda one: len(one.seeds))
    if len(table.seeds) < SEEDS:
        return None, f"{TABLE} has {len(table.seeds)} seeds of this run, and {SEEDS} are needed"
    return table, ""


def metrics_in(folder: Path, names: Sequence[Path]) -> dict[str, Any]:
    """Read the metrics of a run in a folder; a file that is missing or broken has none."""
    import json

    found: dict[str, Any] = {}
    for name in names:
        try:
            found |= json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            continue
    return found
