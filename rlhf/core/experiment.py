"""Know the workspace that an experiment was started from, and refuse one that some of its inputs did not come along to.

`dvc exp run --temp` and queued experiments run in a new folder below the project's .dvc each time. What git or DVC
tracks is there, other files are not: a folder of sheets that git ignores is empty there, and would be read as none.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.git import environment
from rlhf.core.params import dug

# A path in params.yaml -> what makes a run read it: (key, value), or always.
INPUTS: dict[str, tuple[str, object] | None] = {
    "data.path": ("data.source", "files"),
    "data.labels.path": ("data.labels.use", True),
    "base.path": ("base.source", "path"),
    "ppo.function_path": ("ppo.source", "function"),
    "referee.backbone": None,
    "referee.function_path": None,
    "evaluate.people.path": None,
    "evaluate.tax.path": None,
}


def workspace() -> Path | None:
    """Find the project that this folder is a temporary one of, from DVC_ROOT; None where it is the project itself."""
    project = Path(os.environ.get("DVC_ROOT") or ".").resolve()
    elsewhere = project != Path.cwd() and Path.cwd().is_relative_to(project / ".dvc")
    return project if elsewhere else None


def check_inputs_came(resolved: Mapping[str, Any]) -> None:
    """Check, in an experiment's folder, that every input that the run reads is there as in the workspace.

    Raises:
        UserError: a file of the workspace is not here, and neither git nor DVC tracks it; or a relative path leads out
            of the project, and so elsewhere from here.
    """
    origin = workspace()
    if origin is None:
        return
    for key, reads in INPUTS.items():
        path = Path(dug(resolved, key) or "")
        made = path.parts[:1] == ("artifacts",)  # by a stage of the run itself
        if path.is_absolute() or made or (reads is not None and dug(resolved, reads[0]) != reads[1]):
            continue
        there = Path(os.path.normpath(origin / path))
        if not there.is_relative_to(origin):
            raise UserError(
                f"{key}: {path} leads out of the project, and elsewhere from the folder that --temp and --queue run "
                f"in; give the absolute path, {there}"
            )
        for file, reason in _left_behind(origin, path):
            raise UserError(f"{key}: {file} is in the workspace and not in this experiment: {reason}")


def _left_behind(origin: Path, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files at `path` that `origin` has and this folder has not, and why. A tracked file in a folder is no
    fault if nothing of it is here: it has been added since the experiment was queued."""
    missing = [file for file in _files(origin, path) if not file.exists()]
    tracked = _tracked(origin, path) if missing else set()
    for file in missing:
        link = next((each for each in (file, *file.parents) if each.is_symlink()), None)
        # DVC brings what it tracks to the stages that it runs, no others, and fails where its cache lacks it.
        pointers = [Path(f"{each}.dvc") for each in (file, *file.parents)]
        if link is not None:
            yield file, f"the link {link} leads nowhere from its folder; let it hold an absolute path"
        elif file not in tracked and not any(each in tracked and (origin / each).is_file() for each in pointers):
            advice = f"`dvc add {file}` (or `git add -f`), or run without --temp and --queue"
            yield file, f"neither git nor DVC tracks it; {advice}"
        elif not path.exists():
            yield file, "it was added later; queue the experiment again"


def _files(origin: Path, path: Path) -> Iterator[Path]:
    """Yield the file, or the files of the folder, at `path` in `origin`, relative to it; hidden ones and caches are no
    inputs."""
    if (origin / path).is_file():
        yield path
    for folder, names, files in os.walk(origin / path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith(".") and name != "__pycache__")
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith("~"):
                yield (Path(folder) / name).relative_to(origin)


def _tracked(origin: Path, path: Path) -> set[Path]:
    """List what git tracks in `origin` at `path` and above it; nothing where git does not answer."""
    above = [f"{each}.dvc" for each in (path, *path.parents) if each.name]
    command = ["git", "ls-files", "-z", "--", str(path), *above]
    try:
        done = subprocess.run(command, cwd=origin, env=environment(), capture_output=True, check=True)  # noqa: S603 - git, and a path
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {Path(name) for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name}
