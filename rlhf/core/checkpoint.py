"""Save checkpoints that survive a kill at any moment, and are never picked up by another run.

They live outside the stage's outs, because DVC removes outs before it runs a stage: in
`<root>/<stage>-<fingerprint>/`, where the fingerprint is a hash of everything the stage depends on (its parameters,
inputs and code). A run with other parameters looks elsewhere and finds nothing.

Each checkpoint is a folder written under a temporary name, flushed and renamed, with the SHA-256 of its files in a
manifest. `latest` takes the newest that verifies, so that a truncated one costs a few steps and not the run.
One process at a time works on a run: it holds a lock that the system lets go of when the process ends, however it ends.
Where several processes share the run's work, the first one is meant: it holds the lock, writes, and says which
checkpoint all of them resume from. A checkpoint knows nothing of how many there were.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.core.artifacts import (
    atomic_dir,
    explained,
    load_tensors,
    save_tensors,
    sha256_file,
    sha256_tree,
    sync_tree,
    write_text,
)
from rlhf.core.errors import UserError
from rlhf.core.experiment import workspace
from rlhf.core.processes import current

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` steps. `state` holds JSON data with floats at full precision."""

    step: int
    tensors: "dict[str, Tensor]"
    state: dict[str, Any]


def fingerprint(
    params: Mapping[str, object], inputs: Iterable[Path], *, leave_out: Callable[[Path], bool] | None = None
) -> str:
    """Hash parameters and the bytes of inputs (files or folders), in any order: 16 hex digits.

    leave_out: files within the folders that do not count, as `rlhf.core.dag.ignored` names them.
    """
    digest = hashlib.sha256(json.dumps(params, sort_keys=True, allow_nan=False).encode())
    for path in sorted(set(inputs)):
        digest.update(f"\n{path.as_posix()}\0{sha256_tree(path, leave_out=leave_out)}".encode())
    return digest.hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one run of one stage."""

    def __init__(self, root: Path, *, every_s: float, every_steps: int, keep: int = 2) -> None:
        """Args:
        root: the folder of this run (stage and fingerprint in its name).
        every_s: a save is due after this many seconds.
        every_steps: a save is due after this many steps; 0 leaves it to the clock.
        keep: how many to keep; at least 2, so that one may be broken.
        """
        self.folder = root
        self._every_s, self._every_steps, self._keep = every_s, every_steps, keep
        self._last_time, self._last_step = time.monotonic(), 0

    def within(self, name: str) -> "Checkpoints":
        """Return the checkpoints of a part of the run that counts its own steps; they go when the run's go."""
        return Checkpoints(self.folder / name, every_s=self._every_s, every_steps=self._every_steps, keep=self._keep)

    def due(self, step: int) -> bool:
        """Say whether it is time to save after `step` steps. The moment of saving never changes what is computed."""
        by_steps = self._every_steps > 0 and step - self._last_step >= self._every_steps
        return by_steps or time.monotonic() - self._last_time >= self._every_s

    def claim(self) -> None:
        """Reserve this run for this process, until it ends.

        Raises:
            UserError: another process is at it: the two would write into each other's files.
        """
        if not current().is_main:
            return
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self.folder}: another process runs this stage with the same parameters and inputs; "
                "wait until it ends, or stop it"
            ) from None
        except OSError:  # a file system without locks; there it is up to the user
            return

    def save(self, step: int, tensors: "Mapping[str, Tensor]", state: Mapping[str, object]) -> None:
        """Save atomically and drop the oldest. Raises UserError if the disk is full; earlier ones stay."""
        if not current().is_main:
            return self.note_saved(step)
        with atomic_dir(self.folder / f"step-{step:09d}") as folder:
            save_tensors(folder / "tensors.safetensors", tensors)
            write_text(folder / "state.json", json.dumps(state, sort_keys=True, allow_nan=False))
            seal(folder)
        self.note_saved(step)
        for old in self._folders()[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def note_saved(self, step: int) -> None:
        """Start the clock of `due` anew: something (a library, perhaps) has saved after `step` steps."""
        self._last_time, self._last_step = time.monotonic(), step

    def latest(self) -> Checkpoint | None:
        """Load the newest checkpoint that verifies, or return None. Broken ones are named on stderr and removed."""
        name = current().tell(self._newest)
        if name:
            folder = self.folder / name
            step = int(folder.name.removeprefix("step-"))
            self._last_step = step
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            return Checkpoint(step, load_tensors(folder / "tensors.safetensors"), state)
        return None

    def _newest(self) -> str:
        """Name the newest whole checkpoint, after removing broken newer ones; empty if there is none."""
        folders = self._folders()
        whole = next((folder for folder in folders if sealed(folder)), None)
        for folder in folders[: folders.index(whole) if whole else None]:
            discard(folder, whole)
        return whole.name if whole else ""

    def clear(self) -> None:
        """Remove this run's checkpoints: the stage is done, its outs hold the result.

        At one stroke: what a kill in the middle of it leaves is nothing that anyone would resume.
        """
        current().wait()  # others may still read the best weights
        if not current().is_main:
            return
        done = self.folder.with_name(f".{self.folder.name}.done")
        shutil.rmtree(done, ignore_errors=True)
        if self.folder.is_dir():
            self.folder.rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """List the folders, newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((f for f in self.folder.iterdir() if re.fullmatch(r"step-\d{9}", f.name)), reverse=True)


def discard(folder: Path, instead: Path | None) -> None:
    """Remove a checkpoint that cannot be resumed, and say on stderr what is used instead."""
    used = f"using the one before it, {instead.name}" if instead else "there is no good one before it, starting anew"
    sys.stderr.write(f"{folder}: broken checkpoint, {used}\n")
    shutil.rmtree(folder, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the manifest of a finished checkpoint folder: the SHA-256 of each of its files, all flushed to disk."""
    sync_tree(folder)
    files = {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop(MANIFEST, None)
    write_text(folder / MANIFEST, json.dumps(files, sort_keys=True, indent=1))


def sealed(folder: Path) -> bool:
    """Say whether a checkpoint folder is whole: it has a manifest, and every file in it still has its hash."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(sha256_file(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def checkpoint_root(default: Path) -> Path:
    """Find the folder of checkpoints: RLHF_CHECKPOINT_DIR (absolute), or `default` under the project.

    `dvc exp run --temp` and queued experiments work in a new folder below the project each time. DVC names the project
    in DVC_ROOT: checkpoints lie there, and the experiment finds them when it is run again.

    Raises:
        UserError: the variable holds a relative path, which would mean another folder in each workspace.
    """
    value = os.environ.get("RLHF_CHECKPOINT_DIR", "")
    if value and not Path(value).is_absolute():
        raise UserError(f"RLHF_CHECKPOINT_DIR: found {value!r}; an absolute path is needed")
    if value:
        return Path(value)
    project = workspace()
    return default if project is None else project / default
