"""Read dvc.lock: what each stage read and wrote when it last ran."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.yaml import parse_yaml

FOLDER = ".dir"  # the end of a folder's hash


@dataclass(frozen=True, slots=True)
class Item:
    """A file or folder as dvc.lock has it; `size` in bytes."""

    path: Path
    md5: str
    size: int


@dataclass(frozen=True, slots=True)
class Locked:
    """One stage. `params` are the values that it declares, by name; `params_files` the files that they are read from,
    which another stage may write."""

    name: str
    deps: Mapping[Path, Item]
    params: Mapping[str, Any]
    outs: Mapping[Path, Item]
    params_files: tuple[Path, ...] = ()


Lock = Mapping[str, Locked]


def parse_lock(text: str, where: str) -> Lock:
    """Read the text of a dvc.lock, stages in an order in which each comes after those that it reads from.

    Raises:
        UserError: it is not what DVC 3 writes; `where` names it.
    """
    stages = parse_yaml(text, where).get("stages")
    if not isinstance(stages, Mapping):
        raise UserError(f"{where}: no stages; `dvc repro` writes them")
    try:
        found = [_locked(name, entry) for name, entry in stages.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: not what DVC 3 writes ({type(error).__name__}: {error})") from None
    return {stage.name: stage for stage in _in_order(found)}


def upstream(lock: Lock, until: str) -> Lock:
    """Keep the stage `until` and all that it needs.

    Raises:
        UserError: there is no such stage.
    """
    if until not in lock:
        raise UserError(f"--until {until}: no such stage; found {', '.join(lock)}")
    wanted = {until}
    for name in reversed(list(lock)):
        if any(_feeds(lock[name], lock[other]) for other in wanted):
            wanted.add(name)
    return {name: stage for name, stage in lock.items() if name in wanted}


def made_inside(lock: Lock) -> set[Path]:
    """Collect every output of every stage."""
    return {out for stage in lock.values() for out in stage.outs}


def overlaps(path: Path, others: Collection[Path]) -> bool:
    """Say whether a path is one of the others, lies within one, or holds one."""
    return any(path == other or other in path.parents or path in other.parents for other in others)


def _locked(name: str, entry: Mapping[str, Any]) -> Locked:
    files = entry.get("params", {})
    params = {key: value for file in files.values() for key, value in file.items()}
    read, written = _items(entry.get("deps", [])), _items(entry.get("outs", []))
    return Locked(name, read, params, written, tuple(map(Path, files)))


def _items(entries: Iterable[Mapping[str, Any]]) -> dict[Path, Item]:
    return {Path(one["path"]): Item(Path(one["path"]), str(one["md5"]), int(one.get("size", 0))) for one in entries}


def _feeds(maker: Locked, reader: Locked) -> bool:
    return any(overlaps(dep, maker.outs.keys()) for dep in (*reader.deps, *reader.params_files))


def _in_order(stages: list[Locked]) -> list[Locked]:
    """Sort so that makers come before readers, and otherwise as they stand; what is left of a circle stays as it is."""
    left, ordered = list(stages), list[Locked]()
    while left:
        free = [one for one in left if not any(_feeds(other, one) for other in left if other is not one)]
        ordered.append((free or left)[0])
        left.remove(ordered[-1])
    return ordered
