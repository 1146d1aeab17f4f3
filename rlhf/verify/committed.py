"""What a commit says of its run: dvc.lock, numbers, provenance and the machine that made it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import sha256_file
from rlhf.core.errors import UserError
from rlhf.runs.git import Commit
from rlhf.runs.lock import Lock, Locked, parse_lock, upstream

LOCK, COSTS = "dvc.lock", "benchmarks/results/stages.json"


@dataclass(frozen=True)
class Committed:
    """A committed run, as far as its stage `until` where one is named."""

    commit: Commit
    lock: Lock

    @classmethod
    def read(cls, root: Path, name: str, until: str | None) -> "Committed":
        """Read the run of a commit.

        Raises:
            UserError: no such commit or stage, or the commit holds no dvc.lock.
        """
        commit = Commit.find(root, name)
        text = commit.read(LOCK)
        if text is None:
            raise UserError(f"{name}: the commit holds no dvc.lock, so no run was committed with it")
        lock = parse_lock(text.decode(), f"{commit.short}:{LOCK}")
        return cls(commit, upstream(lock, until) if until else lock)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All metrics of its stages, by name."""
        outs = [out for stage in self.lock.values() for out in stage.outs if out.parts[0] == "metrics"]
        return {name: value for out in outs for name, value in self.json(out).items()}

    def json(self, path: Path | str) -> dict[str, Any]:
        """Read a committed JSON object; empty where there is none, or none that can be read."""
        try:
            found = json.loads(self.commit.read(path) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def provenance(self, stage: str) -> dict[str, Any]:
        """Read the committed provenance of a stage."""
        return self.json(record_of(stage))

    def process(self, stage: str) -> dict[str, Any]:
        """Read which machine and process made a stage's outputs; empty where that was not recorded with this run.

        The costs in git may be those of another run: they count for a stage whose provenance is the one they name.
        """
        costs, record = self.json(COSTS), self.commit.read(record_of(stage))
        own = costs.get("stages", {}).get(stage, {})
        if record is None or own.get("made") != digest(record):
            return {}
        return {"machine": costs.get("machine", {}), "numerics": own.get("numerics") or {}}

    def seconds(self) -> dict[str, float]:
        """Read how long each stage took where that was measured."""
        stages = self.json(COSTS).get("stages", {})
        return {name: float(stages[name]["wall_s"]) for name in self.lock if "wall_s" in stages.get(name, {})}


def process_in(folder: Path, stage: str) -> dict[str, Any]:
    """Read the same of a run in a folder, which has left it in .costs/."""
    path, record = folder / ".costs" / f"{stage}.json", folder / record_of(stage)
    try:
        own = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    belongs = record.is_file() and own.get("made") == sha256_file(record)
    return {"machine": own.get("machine", {}), "numerics": own.get("numerics") or {}} if belongs else {}


def record_of(stage: str) -> Path:
    """Name the provenance of a stage."""
    return Path("provenance") / f"{stage.replace('@', '_')}.json"


def digest(data: bytes) -> str:
    """Hash bytes with SHA-256, in hex."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def size_of(stages: list[Locked]) -> int:
    """Sum the sizes of all outputs, in bytes."""
    return sum(item.size for stage in stages for item in stage.outs.values())
