"""Marks of the steps that were done: each holds the version of everything that its step depends on."""

import contextlib
import functools
import inspect
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import sha256_file
from rlhf.core.checkpoint import fingerprint
from rlhf.core.dag import ignored
from rlhf.core.errors import UserError
from rlhf.core.params import dug, read_resolved
from studies.folder import connect, furnish
from studies.run import CODE, PROJECT, ROOT, TAMPER, Run, project_stages


def version(run: Run, step: str) -> str:
    """Hash everything that a step depends on: parameters, code, files.

    Raises:
        UserError: a file that it reads or a parameter that it declares is not there.
    """
    with contextlib.chdir(run.folder):
        resolved = read_resolved(Path("params.resolved.json"))
        if step == TAMPER and run.tamper and run.start:
            edit, start = run.tamper.edit, run.start.folder
            about: dict[str, object] = {"seed": resolved["seed"], "edit": edit.__name__}
            about["code"] = _file_version(Path(inspect.getfile(edit)))
            with contextlib.chdir(start):
                return fingerprint(about, run.outs(TAMPER))
        spec = run.spec(step)
        values = {name: _declared_value(resolved, name, f"{run.resolved}: {step}") for name in spec.params}
        data = [dep for dep in spec.deps if dep.parts[0] not in CODE]
        code = code_now(step) if run.measured else code_in_memory(step)
        try:
            return fingerprint({"params": values, "code": code}, data, leave_out=ignored())
        except UserError as error:
            hint = "; run `dvc repro` first" if run.start is PROJECT else ""
            raise UserError(f"{run.folder}: {step} reads {error}{hint}") from None


def is_done(run: Run, step: str) -> bool:
    """Say whether a step was done as it would be done now, and its outputs are there."""
    mark = run.mark(step)
    outs = all((run.folder / out).exists() for out in run.outs(step))
    return outs and mark.is_file() and mark.read_text(encoding="utf-8") == version(run, step)


def is_made(run: Run) -> bool:
    """Say whether all steps of a run and of those it starts from were done as they would be done now."""
    if run is PROJECT:
        return True
    if not run.folder.is_dir() or (run.start is not None and not is_made(run.start)):
        return False
    furnish(run)
    connect(run)
    return all(is_done(run, step) for step in run.steps)


def code_now(stage: str) -> str:
    """Hash the code that the project's dvc.yaml declares for a stage, without what .dvcignore leaves out."""
    with contextlib.chdir(ROOT):
        code = [dep for dep in project_stages()[stage].deps if dep.parts[0] in CODE]
        return fingerprint({}, code, leave_out=ignored())


code_in_memory = functools.cache(code_now)  # as it was when this process first asked: what its forks run


_file_version = functools.cache(sha256_file)


def _declared_value(resolved: dict[str, Any], dotted: str, where: str) -> Any:
    """Look up a declared parameter. One that is not there would hide every change of what was meant."""
    parent, _, last = dotted.rpartition(".")
    section = dug(resolved, parent) if parent else resolved
    if not isinstance(section, dict) or last not in section:
        raise UserError(f"{where} declares {dotted} in dvc.yaml, and there is no such parameter")
    return section[last]
