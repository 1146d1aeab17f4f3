"""Compare the run that is here with a committed one: numbers by what another seed gives, and data row by row."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.diff.data import Pairs, counts, moves, read_pairs, why_split
from rlhf.diff.metrics import Changes, changes
from rlhf.runs.cache import find_cache
from rlhf.runs.git import Commit
from rlhf.runs.headlines import SEEDS
from rlhf.runs.lock import parse_lock
from rlhf.runs.seed_table import TABLE, SeedTable, keys_of, read_tables, read_tables_here

LOCK, RESOLVED = "dvc.lock", "params.resolved.json"
PAIRS = Path("artifacts/prepare/pairs")


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed since a commit. `moved` is None where the rows of either run are not here, and `why` says so;
    `table` names the table that the numbers were judged by, and what is wrong with it."""

    commit: str
    numbers: Changes
    table: str
    rows: list[tuple[str, int | None, int | None]]
    moved: Mapping[tuple[str, str], int] | None
    why: list[str]


def difference(root: Path, name: str) -> Difference:
    """Compare the metrics and the data of the project in `root` with those of a commit.

    Raises:
        UserError: no such commit, or neither it nor the project has metrics.
    """
    commit = Commit.find(root, name)
    files = [file for file in commit.files("metrics") if file.endswith(".json")]
    before = _merged({file: commit.read(file) for file in files})
    after = _merged({str(path): path.read_bytes() for path in sorted((root / "metrics").glob("*.json"))})
    if not before and not after:
        raise UserError(f"metrics/: neither {name} nor this folder has any; `dvc repro` makes them")
    theirs, ours = _object(commit.read(RESOLVED)), _object(_bytes(root / RESOLVED))
    table, said = _table(root, commit, theirs)
    old, new = _committed_pairs(root, commit), _pairs_here(root)
    why = why_split(theirs, ours)
    if old is None or new is None:
        lacks = f"of {name} are not in DVC's cache" if old is None else "are not here"
        why = [f"the rows in {PAIRS} {lacks}; `dvc fetch` or `dvc repro prepare` brings them"]
    moved = moves(old, new) if old is not None and new is not None else None
    return Difference(commit.short, changes(before, after, table), said, counts(before, after), moved, why)


def _table(root: Path, commit: Commit, resolved: Mapping[str, Any]) -> tuple[SeedTable | None, str]:
    """Find what another seed gave of the run before: the table of its parameters. Of other code it is used, and said to
    be: a change of code is what a diff is about."""
    tables = [*read_tables_here(root / TABLE).values(), *read_tables(commit.read(TABLE), str(TABLE)).values()]
    if not tables:
        return None, f"spread unknown: there is no {TABLE}; `make seed-spread` makes it"
    try:
        keys = keys_of(root, resolved)
    except UserError as error:
        return None, f"spread unknown: {error}"
    fitting = [table for table in tables if table.keys.params == keys.params]
    if not fitting:
        profile = resolved.get("profile", "?")
        return None, f"spread unknown: {TABLE} has no entry for profile {profile} with the parameters of {commit.short}"
    table = min(fitting, key=lambda one: (len(keys.changed(one.keys)), -len(one.seeds)))
    if len(table.seeds) < SEEDS:
        return None, f"spread unknown: {TABLE} has {len(table.seeds)} seeds, and {SEEDS} are needed"
    changed = keys.changed(table.keys)
    old = f"; it is outdated: the code of {', '.join(changed)} has changed since it was made" if changed else ""
    return table, f"by {len(table.seeds)} seeds of profile {table.profile}{old}"


def _committed_pairs(root: Path, commit: Commit) -> Pairs | None:
    text = commit.read(LOCK)
    stage = parse_lock(text.decode(), f"{commit.short}:{LOCK}").get("prepare") if text else None
    if stage is None or PAIRS not in stage.outs:
        return None
    cache = find_cache(root)
    listed = cache.listing(stage.outs[PAIRS].md5)
    if listed is None or not all(cache.whole(md5) for md5 in listed.values()):
        return None
    return read_pairs({name: cache.path(md5).read_bytes() for name, md5 in listed.items()})


def _pairs_here(root: Path) -> Pairs | None:
    folder = root / PAIRS
    return read_pairs({path.name: path.read_bytes() for path in folder.glob("*.jsonl")}) if folder.is_dir() else None


def _merged(files: Mapping[str, bytes | None]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, data in files.items():
        try:
            found |= json.loads(data or b"{}")
        except (ValueError, TypeError):
            raise UserError(f"{name}: not a JSON object of metrics") from None
    return found


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data) if data else {}
    except ValueError:
        raise UserError(f"{RESOLVED}: not JSON; `dvc repro resolve` writes it") from None
    return found if isinstance(found, dict) else {}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
