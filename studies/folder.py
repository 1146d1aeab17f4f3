"""A run's folder: links to the project, its own parameters, and links to what other runs made."""

import copy
import functools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_json
from rlhf.core.errors import UserError
from rlhf.core.params import dug, read_resolved, write_resolved
from rlhf.core.yaml import read_yaml
from studies.run import CODE, PROJECT, ROOT, TAMPER, Run, project_stages

LINKED = (*CODE, "profiles", "inputs", "dvc.yaml", ".dvcignore")


def furnish(run: Run) -> None:
    """Make the folder a project: links to the project's, params.yaml with the changes, and resolved.

    Raises:
        UserError: a changed key or value is not allowed, or a stage that the run shares was made with other values of a
            parameter that it declares.
    """
    from rlhf.params import resolve

    for name in LINKED:
        link(run.folder, name, ROOT / name)
    values = copy.deepcopy(_project_params())
    own = {"launch.processes": 1} | dict(run.changes)  # which change no byte: a study gives its cores to other runs
    put(values, own, where=str(ROOT / "params.yaml"))
    write_json(run.folder / "params.yaml", values)  # JSON is YAML too
    write_resolved(run.resolved, resolve(run.folder / "params.yaml", ROOT / "profiles").stages())
    resolved = read_resolved(run.resolved)
    for stage, maker in run.shared.items():
        theirs = read_resolved(maker.resolved)
        for name in project_stages()[stage].params:
            if dug(resolved, name) != dug(theirs, name):
                again = "; run `dvc repro` first" if maker is PROJECT else ""
                raise UserError(f"{run.folder}: stage {stage} of {maker.folder} has another value of {name}{again}")


def put(values: dict[str, Any], changes: Mapping[str, object], *, where: str) -> None:
    """Set values by dotted keys. Raises UserError for a key that is not there."""
    for dotted, new in changes.items():
        *parents, last = dotted.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise UserError(f"{where}: no key {dotted}")
        place[last] = new


def connect(run: Run) -> None:
    """Link what the run's stages read and do not make: outputs of other runs, and files of the user's own."""
    for mark in run.mark("").glob("*"):
        if mark.name not in run.steps:  # shared from now on
            mark.unlink()
    edited = set(run.outs(TAMPER))
    for stage, maker in run.shared.items():
        for out in project_stages()[stage].outs:
            if out not in edited:
                remove(run.folder, out, links=False)
                link(run.folder, out.as_posix(), maker.folder / out)
    made = {out.parts[0] for spec in project_stages().values() for out in spec.outs}
    for stage in run.stages:
        for dep in run.spec(stage).deps:
            if not dep.is_absolute() and dep.parts[0] not in made and (ROOT / dep.parts[0]).exists():
                link(run.folder, dep.parts[0], ROOT / dep.parts[0])


def link(folder: Path, name: str, target: Path) -> None:
    """Make `folder`/`name` a relative link. Raises UserError where something else is in the way."""
    path = folder / name
    _no_links_above(folder, Path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = os.path.relpath(target, path.parent)
    if path.is_symlink() and os.readlink(path) != text:  # noqa: PTH115 - as text
        path.unlink()
    elif path.exists() and not path.is_symlink():
        raise UserError(f"{path}: in the way of a link to {target}; remove {folder} if an earlier version made it")
    if not path.is_symlink():
        path.symlink_to(text)


def remove(folder: Path, out: Path, *, links: bool = True) -> None:
    """Remove an output of a run; of a link (where `links`) only the link."""
    _no_links_above(folder, out)
    path = folder / out
    if path.is_symlink():
        if links:
            path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _project_params() -> dict[str, Any]:
    return read_yaml(ROOT / "params.yaml")


def _no_links_above(folder: Path, name: Path) -> None:
    """Refuse a path below a link: what is written there would be written into another run."""
    for parent in [folder / above for above in name.parents if above != Path()]:
        if parent.is_symlink():
            raise UserError(f"{parent}: a link where a folder should be; remove {folder}, an earlier version made it")
