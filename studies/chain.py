"""Stages one after the other in a folder of their own, for studies that compare many runs without touching the project.

A stage whose parameters and dependencies (code, data, models) are those of its last success there is not run again, as
`dvc repro` would have it; so a study that was stopped goes on where it was, and one that shares base and SFT with
another starts from a copy of it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.repro_gpu.workspace import prepare_workspace
from rlhf.core.artifacts import read_json, write_json
from rlhf.core.checkpoint import fingerprint
from rlhf.core.dag import declared
from rlhf.core.errors import UserError
from rlhf.core.params import dug, read_resolved

STAGES = ("resolve", "prepare", "base", "sft", "reward", "ppo", "evaluate")
_RECORD = "chain.json"
_KEPT = ("artifacts", "metrics", "plots", "provenance", _RECORD)


class StageError(Exception):
    """A stage ended with an error; its last lines are the message."""


def run_chain(
    folder: Path, changes: dict[str, Any], *, stages: tuple[str, ...] = STAGES, start: Path | None = None
) -> dict[str, Any]:
    """Run `stages` in `folder` with `changes` (dotted keys of params.yaml) and return all their metrics together.

    stages: names, as dvc.yaml's; "name@item" is one of a foreach.

    start: folder of another chain; what it made is copied into a new `folder` first.

    Raises:
        StageError: a stage's exit status was not 0; what came before it is kept.
    """
    if start is not None and not folder.exists():
        folder.mkdir(parents=True)
        for name in _KEPT:
            if (start / name).is_dir():
                shutil.copytree(start / name, folder / name)
            elif (start / name).is_file():
                shutil.copyfile(start / name, folder / name)
    prepare_workspace(folder, changes)
    for own in ("preferences", "model"):  # dependencies of prepare and base, empty or not
        (folder / "inputs" / own).mkdir(parents=True, exist_ok=True)
    record = folder / _RECORD
    done: dict[str, str] = read_json(record) if record.is_file() else {}
    for stage in stages:
        if stage == "resolve":
            _run(stage, folder)  # half a second, and what the others' fingerprints are made of
            continue
        now = _fingerprint(folder, stage)
        if now is not None and done.get(stage) == now:
            continue
        _run(stage, folder)
        done[stage] = now or ""
        write_json(record, done)
    found: dict[str, Any] = {}
    for stage in stages:
        path = folder / "metrics" / f"{stage.replace('@', '_')}.json"
        found |= read_json(path) if path.is_file() else {}
    return found


def _fingerprint(folder: Path, stage: str) -> str | None:
    """None where a dependency is missing: the stage itself says it best."""
    here = Path.cwd()
    os.chdir(folder)  # dependencies are relative to it, and their names are part of the hash
    try:
        spec, resolved = declared(Path("dvc.yaml"), stage), read_resolved(Path("params.resolved.json"))
        return fingerprint({name: dug(resolved, name) for name in spec.params}, spec.deps)
    except UserError:
        return None
    finally:
        os.chdir(here)


def _run(stage: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve()), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"== {stage}\n")
        file.flush()
        name, _, variant = stage.partition("@")
        command = [sys.executable, "-m", f"stages.{name}", *([variant] if variant else [])]
        status = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=file, check=False).returncode
    if status:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise StageError(f"{folder.name}: {stage} ended with status {status}: {json.dumps(tail)}")
