"""Compare the outputs in a folder with those that dvc.lock records, byte for byte."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.dag import ignored
from rlhf.core.dvc_hash import file_md5, file_md5s, folder_md5
from rlhf.runs.lock import FOLDER, Item, Locked
from rlhf.verify.committed import Committed

RECORDS, PAGES = "provenance", "reports"


@dataclass(frozen=True, slots=True)
class Difference:
    """An output that is not what dvc.lock records."""

    stage: str
    path: Path
    what: str  # completes "<path> ..."


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it. `outputs` counts all that were compared; `versions` are records that differ in the versions of
    libraries alone, which is a difference of who made the run and not of what was made."""

    outputs: int
    stages: int
    differences: list[Difference]
    versions: list[Path]


def compare(committed: Committed, folder: Path, now: Mapping[str, Locked] | None = None) -> Compared:
    """Compare every output of the committed run with the run in `folder`, in the order of the stages.

    now: the dvc.lock of the run in the folder, if it has one: outputs that only it knows differ as well.
    """
    leave_out = ignored(folder)
    found: list[Difference] = []
    versions: list[Path] = []
    outputs = 0
    for stage in committed.lock.values():
        for path, item in stage.outs.items():
            outputs += 1
            what = _difference(item, hash_of(folder, path, leave_out)) or _doctored(committed, item)
            if what and path.parts[0] == RECORDS and _same_but_versions(committed, folder, path):
                versions.append(path)
            elif what:
                found.append(Difference(stage.name, path, what))
    for name, own in (now or {}).items():
        known = committed.lock[name].outs if name in committed.lock else {}
        found += [Difference(name, path, "is not in dvc.lock") for path in own.outs if path not in known]
    if versions:  # the report shows them
        found = [one for one in found if one.path.parts[0] != PAGES]
    order = [*committed.lock, *(now or {})]
    return Compared(outputs, len(committed.lock), sorted(found, key=lambda one: order.index(one.stage)), versions)


def hash_of(folder: Path, path: Path, leave_out: Callable[[Path], bool]) -> str | None:
    """Hash a file or folder as DVC does; None where there is nothing."""
    where = folder / path
    if where.is_file():
        return file_md5(where)
    if not where.is_dir():
        return None
    inside = not path.is_absolute() and ".." not in path.parts  # .dvcignore speaks of the project alone
    return folder_md5(file_md5s(where, leave_out=lambda file: inside and leave_out(file.relative_to(folder))))


def _difference(item: Item, found: str | None) -> str:
    if found is None:
        return "is missing"
    if found == item.md5:
        return ""
    if found.endswith(FOLDER) != item.md5.endswith(FOLDER):
        return "is a folder here and a file there" if found.endswith(FOLDER) else "is a file here and a folder there"
    return "has other bytes"


def _doctored(committed: Committed, item: Item) -> str:
    """Say where the commit contradicts itself: a number in git that is not the one that dvc.lock hashes."""
    import hashlib

    data = None if item.md5.endswith(FOLDER) else committed.commit.read(item.path)
    if data is None or hashlib.md5(data, usedforsecurity=False).hexdigest() == item.md5:
        return ""
    return "was committed with other bytes than the commit's own dvc.lock records"


def _same_but_versions(committed: Committed, folder: Path, path: Path) -> bool:
    there = committed.json(path)
    try:
        here = json.loads((folder / path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(there) and {**there, "versions": None} == {**here, "versions": None}
