"""`make seed-spread`: what another seed gives, over twenty seeds of a profile: the table that verify and diff judge by.

    python -m studies.seed_spread [--seeds 0 1 ... 19] [--profile tiny] [--processes 1] [--work .seeds]

Each seed takes as long as `make repro` up to evaluate. A seed that the table has for the present code and parameters
is left alone, so the study is made in as many sittings as it takes. Where code or parameters have changed since, the
first seed of the table is made again: if each of its numbers is the same, the change was none to the runs, and the
table stays; else it is made anew. Writes benchmarks/results/seed_spread.{json,md}.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, rounded, write_text
from rlhf.core.provenance import library_versions
from rlhf.core.yaml import read_yaml
from rlhf.runs.headlines import FAMILYWISE, SEEDS
from rlhf.runs.seed_table import (
    TABLE,
    Keys,
    SeedTable,
    keys_of,
    numbers_of,
    read_tables_here,
    write_tables,
)
from studies.command import Entry, Found, note_all, options, run_command
from studies.folder import furnish
from studies.run import ROOT, STAGES, Run, seed_run

Numbers = Mapping[str, Any]


def plan(work: Path, profile: str, seed: int) -> Run:
    """Plan the whole pipeline of one seed; the runs of the profile in params.yaml are those of `make seeds`."""
    if profile == read_yaml(ROOT / "params.yaml")["profile"]:
        return seed_run(work, seed)
    return Run(work / f"{profile}-seed{seed}", {"profile": profile, "seed": seed}, STAGES)


def keys_now(run: Run) -> Keys:
    """Compute the keys of the present code with the parameters of a run."""
    furnish(run)
    return keys_of(ROOT, read_json(run.resolved))


def to_go_on_with(old: SeedTable | None, profile: str, keys: Keys, remake: Callable[[str], Numbers]) -> SeedTable:
    """Take the table of a profile as far as it is true of these keys, and say what is dropped.

    remake: makes a seed with the present code and parameters, and gives its numbers.
    """
    if old is None or not old.seeds:
        return SeedTable(profile, keys, library_versions(), {})
    if old.keys == keys:
        return old
    seed = min(old.seeds, key=int)
    other = f"the code of {', '.join(changed)}" if (changed := keys.changed(old.keys)) else "the parameters"
    print(f"{profile}: {other} changed since; seed {seed} is made again", file=sys.stderr)
    before, now = old.seeds[seed], remake(seed)
    differ = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if not differ:
        print(f"{profile}: its {len(now)} numbers are the same, and the table stays", file=sys.stderr)
        return replace(old, keys=keys)
    print(
        f"{profile}: {len(differ)} of its numbers differ ({differ[0]}: {before.get(differ[0])} was, "
        f"{now.get(differ[0])} is): all {len(old.seeds)} seeds are made again",
        file=sys.stderr,
    )
    return SeedTable(profile, keys, library_versions(), {})


def page(tables: dict[str, SeedTable]) -> str:
    """Render, for each profile, what each headline number does over seeds."""
    return "\n".join(_section(tables[profile]) for profile in sorted(tables))


def _section(table: SeedTable) -> str:
    from rlhf.runs.spread import judge, left_out

    columns, lines = table.columns(), [f"## {table.profile}: {len(table.seeds)} seeds", ""]
    if len(table.seeds) < 3 or not columns:
        return "\n".join([*lines, "Too few seeds yet to say what another gives.", ""])
    lines += ["| number | mean | least | most | another seed gives |", "|---" * 5 + "|"]
    for one in judge({}, columns):
        values = columns[one.name]
        cells = (f"{one.mean:.4g}", f"{min(values):.4g}", f"{max(values):.4g}", f"{one.low:.4g} to {one.high:.4g}")
        lines.append(f"| `{one.name}` | {' | '.join(cells)} |")
    outside, count, share = left_out(columns)
    lines += [
        "",
        f"Familywise {FAMILYWISE:.0%}, all {len(columns)} numbers together. Judged by all others, {outside} of {count} "
        f"seeds fall outside: {share.mean:.1%} (95 % interval {share.low:.1%} to {share.high:.1%}).",
    ]
    if count < SEEDS:
        lines.append(f"`verify` uses a table from {SEEDS} seeds on.")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = options(__doc__, ".seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--profile", choices=sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
    given = parser.parse_args()
    profile = given.profile or str(read_yaml(ROOT / "params.yaml")["profile"])
    record = given.out / TABLE.name
    tables = read_tables_here(record)

    def entry(seed: str) -> Entry:
        run = plan(given.work, profile, int(seed))
        return Entry((run,), lambda: rounded(numbers_of(run.metrics())))  # type: ignore[return-value,arg-type] # of a mapping, one

    def remake(seed: str) -> Numbers:
        again: Found = {}
        note_all({seed: entry(seed)}, again, 1, lambda _: None)
        return again[seed]

    keys = keys_now(plan(given.work, profile, given.seeds[0]))
    table = to_go_on_with(tables.get(profile), profile, keys, remake)
    seeds: Found = {seed: dict(row) for seed, row in table.seeds.items()}

    def write(seeds: Found) -> None:
        tables[profile] = SeedTable(profile, table.keys, table.versions, seeds)
        write_tables(record, tables)
        write_text(record.with_suffix(".md"), page(tables))

    left = [str(seed) for seed in given.seeds if str(seed) not in seeds]
    print(f"{profile}: {len(seeds)} seeds in the table, {len(left)} to make", file=sys.stderr)
    if seeds:
        write(seeds)  # a table that stays has other keys now
    note_all({seed: entry(seed) for seed in left}, seeds, given.processes, write)
    print(page(tables))


if __name__ == "__main__":
    run_command(main)
