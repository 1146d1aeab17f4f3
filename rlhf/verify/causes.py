"""Find out what differs between two runs beside their outputs: parameters, code, data, libraries, machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.params import dug
from rlhf.runs.lock import Locked, made_inside, parse_lock
from rlhf.verify.committed import LOCK, Committed, process_in, record_of

CODE = ("rlhf", "stages", "profiles", "benchmarks")
NAMES = {  # of facts of a machine and its process, as they are shown
    "machine.processor": "processor",
    "numerics.processor_has": "instructions of the processor",
    "numerics.instruction_set": "instruction set in use",
    "numerics.portable": "instruction set fixed",
    "numerics.fixed": "variables that fix it",
    "machine.system": "system",
    "numerics.libc": "libc",
    "numerics.blas": "BLAS of torch",
    "numerics.numpy_blas": "BLAS of NumPy",
    "numerics.threads": "threads",
    "machine.gpus": "GPUs",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a result may hang on, of the committed run and of this one; None where it was not recorded."""

    name: str
    committed: str | None
    here: str | None

    @property
    def known(self) -> bool:
        """Say whether both are known."""
        return self.committed is not None and self.here is not None


def facts(committed: Committed, folder: Path, now: Mapping[str, Locked], stage: str) -> list[Fact]:
    """Collect the facts about a stage and those before it, whether they differ or not.

    now: the dvc.lock of a run that was just made there; empty for one that was made before, whose own lock is asked for
    code and data alone.
    """
    found = [*_parameters(committed, folder, now), *_dependencies(committed, now or _lock_in(folder))]
    maker = _with_a_record(committed, stage)
    found += _versions(committed.provenance(maker), _read(folder / record_of(maker)))
    there, here = committed.process(maker), process_in(folder, maker)
    return found + [Fact(shown, _text(dug(there, key)), _text(dug(here, key))) for key, shown in NAMES.items()]


def _lock_in(folder: Path) -> Mapping[str, Locked]:
    """Read a folder's dvc.lock; empty where it has none, or none that can be read."""
    path = folder / LOCK
    try:
        return parse_lock(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UserError):
        return {}


def _with_a_record(committed: Committed, stage: str) -> str:
    """Find the first stage from `stage` on that left provenance; `resolve` leaves none."""
    names = list(committed.lock)
    after = names[names.index(stage) :] if stage in names else []
    return next((name for name in after if committed.provenance(name)), stage)


def _parameters(committed: Committed, folder: Path, now: Mapping[str, Locked]) -> Iterator[Fact]:
    """Compare every parameter that the stages declare."""
    resolved = _read(folder / "params.resolved.json")
    there: dict[str, Any] = {}
    here: dict[str, Any] = {}
    for name, stage in committed.lock.items():
        there |= stage.params
        known = now[name].params if name in now else {key: dug(resolved, key) for key in stage.params}
        here |= known if resolved or name in now else {}
    flat, own = dict(_flat(there)), dict(_flat(here))
    if not own:
        yield Fact("parameters", "recorded", None)
        return
    changed = [key for key in {**flat, **own} if flat.get(key) != own.get(key)]
    for key in sorted(changed):
        yield Fact(f"parameter {key}", _text(flat.get(key), "absent"), _text(own.get(key), "absent"))
    if not changed:
        yield Fact("parameters", "the same", "the same")


def _dependencies(committed: Committed, now: Mapping[str, Locked]) -> Iterator[Fact]:
    """Compare code and data by their hashes in both locks."""
    made = made_inside(committed.lock)
    for kind in ("code", "data"):
        pairs = {
            path: (item.md5, now[name].deps[path].md5 if name in now and path in now[name].deps else None)
            for name, stage in committed.lock.items()
            for path, item in stage.deps.items()
            if _kind(path, made) == kind
        }
        if not now:
            yield Fact(kind, "recorded", None)
            continue
        changed = {path: both for path, both in pairs.items() if both[0] != both[1]}
        for path, (before, after) in sorted(changed.items()):
            yield Fact(f"{kind} {path}", before[:9], after[:9] if after else "not read")
        if not changed:
            yield Fact(kind, "the same", "the same")


def _kind(path: Path, made: set[Path]) -> str:
    if any(path == out or out in path.parents or path in out.parents for out in made):
        return "made"
    return "code" if path.parts[0] in CODE else "parameters" if path.name == "params.yaml" else "data"


def _versions(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Fact]:
    both = (there.get("versions") or {}, here.get("versions") or {})
    for name in sorted({*both[0], *both[1]} | {"python"}):
        yield Fact(name, *(_text(one.get(name), "absent" if one else None) for one in both))


def _flat(values: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


def _text(value: Any, nothing: str | None = None) -> str | None:
    if value is None:
        return nothing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in sorted(value.items())) or "none"
    return str(value)


def _read(path: Path) -> dict[str, Any]:
    import json

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
