"""Make a commit's project in a scratch folder: its code and parameters, none of its outputs, no cache."""

import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import explained, write_json, write_text
from rlhf.core.dag import ignored
from rlhf.core.errors import UserError
from rlhf.core.yaml import parse_yaml, read_yaml
from rlhf.runs.lock import made_inside, overlaps
from rlhf.verify.causes import CODE
from rlhf.verify.committed import LOCK, Committed, size_of
from rlhf.verify.compare import hash_of

ROOM = 3  # of the outputs' size: themselves, DVC's copy, checkpoints
SPARE = 100_000_000  # bytes: the code, logs, what libraries write


@dataclass
class Scratch:
    """A scratch folder; `keep` it when the run in it is worth a look."""

    folder: Path
    keep: bool = False

    @property
    def project(self) -> Path:
        """The project in it."""
        return self.folder / "run"


@contextmanager
def scratch_folder(inside: Path | None) -> Iterator[Scratch]:
    """Open a scratch folder, removed at the end however the block ends, unless it is to be kept.

    Raises:
        UserError: it cannot be made there.
    """
    parent = inside or Path(tempfile.gettempdir())
    if not parent.is_dir():
        raise UserError(f"--scratch {parent}: no such folder")
    with explained(parent):
        scratch = Scratch(Path(tempfile.mkdtemp(prefix="rlhf-verify-", dir=parent)))
    try:
        yield scratch
    finally:
        if not scratch.keep:
            shutil.rmtree(scratch.folder, ignore_errors=True)


def check_room(committed: Committed, folder: Path, data: int = 0) -> None:
    """Raise UserError unless the file system has room for the run; `data`: bytes of inputs that are copied as well."""
    needed = ROOM * size_of(list(committed.lock.values())) + data + SPARE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and the run needs {needed / 1e6:,.0f}; "
            "--scratch names another place"
        )


def furnish(scratch: Scratch, committed: Committed, settings: Sequence[str]) -> None:
    """Take the commit out into the scratch folder, with the user's data and `settings` (KEY=VALUE of params.yaml).

    Raises:
        UserError: a setting is no key of params.yaml, or the data that the run was made from are not here.
    """
    project = scratch.project
    committed.commit.clone_to(project)
    write_text(project / ".dvc" / "config.local", "[cache]\n    dir = cache\n")  # its own, whatever the commit says
    outs = made_inside(committed.lock) | _declared_outs(project)
    for out in outs:
        where = project / out
        shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
    (project / LOCK).unlink(missing_ok=True)
    _bring_data(committed, project, outs)
    if settings:
        values = copy.deepcopy(read_yaml(project / "params.yaml"))
        for setting in settings:
            put(values, setting)
        write_json(project / "params.yaml", values)  # JSON is YAML too


def put(values: dict[str, Any], setting: str) -> None:
    """Set one value, given as KEY=VALUE with VALUE in YAML. Raises UserError for a key that is not there."""
    key, equals, text = setting.partition("=")
    *parents, last = key.strip().split(".")
    place: Any = values
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not equals or not isinstance(place, dict) or last not in place:
        raise UserError(f"-S {setting}: KEY=VALUE is needed, KEY one of params.yaml, as in ppo.kl_coef=0.1")
    place[last] = parse_yaml(f"value: {text}", f"-S {setting}")["value"]


def _bring_data(committed: Committed, project: Path, outs: set[Path]) -> None:
    """Copy the user's data, which git does not hold, if they are those that the run was made from."""
    root = committed.commit.root
    data = {
        path: item
        for stage in committed.lock.values()
        for path, item in stage.deps.items()
        if path.parts[0] not in CODE and path.name != "params.yaml" and not overlaps(path, outs)
    }
    missing = {path: item for path, item in data.items() if hash_of(project, path, ignored(project)) != item.md5}
    check_room(committed, project.parent, sum(item.size for item in missing.values()))
    for path, item in missing.items():
        found = hash_of(root, path, ignored(root))
        if found != item.md5:
            what = "is not here" if found is None else "is not what the run was made from (dvc.lock has another hash)"
            raise UserError(f"{path}: {what}, and git does not hold it; put those data back, or verify where they are")
        if not path.is_absolute():
            where = project / path
            shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
            where.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(root / path, where) if (root / path).is_dir() else shutil.copyfile(root / path, where)


def _declared_outs(project: Path) -> set[Path]:
    """List the outputs that the commit's dvc.yaml declares; its lock may be older."""
    found: set[Path] = set()
    stages: Mapping[str, Any] = read_yaml(project / "dvc.yaml").get("stages", {})
    for entry in stages.values():
        spec = entry.get("do", entry)
        for out in [*spec.get("outs", []), *spec.get("metrics", []), *spec.get("plots", [])]:
            name = out if isinstance(out, str) else next(iter(out))
            for item in entry.get("foreach", [""]):
                if "${" not in (filled := name.replace("${item}", str(item))):
                    found.add(Path(filled))
    return found
