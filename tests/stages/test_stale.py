"""What makes a stage stale, asked of DVC itself on the project's own dvc.yaml and .dvcignore, with made-up outputs."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.checkpoint import fingerprint
from rlhf.core.dag import declared, ignored
from rlhf.core.yaml import read_yaml
from tests.stages.test_dag import ROOT, RUN

pytestmark = pytest.mark.pipeline

CODE = ("rlhf", "stages")
HARMLESS = (
    "rlhf/ppo/__pycache__/step.cpython-311.pyc", "rlhf/ppo/.step.py.swp", "rlhf/README.md", "rlhf/ppo/notes.txt",
    "rlhf/core/stray.json",
)  # fmt: skip


def dvc(folder: Path, *args: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *args], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stale(folder: Path) -> set[str]:
    """The stages that DVC would run because of their own dependencies."""
    return {name.partition(":")[2] or name for name in json.loads(dvc(folder, "status", "--json"))}


def plant(values: dict[str, Any], dotted: str) -> None:
    """Give a key that a stage declares some value, unless it has one."""
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values.setdefault(key, {"run": False})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code and dvc.yaml as they are; every other dependency and every output a line; all of it up to date."""
    folder = tmp_path_factory.mktemp("stale")
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("profiles", "inputs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.jsonl"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    resolved: dict[str, Any] = {"seed": 0, "profile": "tiny"} | {
        section: {"run": False} for section in read_yaml(ROOT / "params.yaml") if section not in ("seed", "profile")
    }
    methods = read_yaml(ROOT / "dvc.yaml")["stages"]["offline"]["foreach"]
    resolved["offline"] = {name: {} for name in ("shared", *methods)}
    for stage in RUN:
        for name in declared(folder / "dvc.yaml", stage).params:
            plant(resolved, name)
    for stage in RUN:
        spec = declared(folder / "dvc.yaml", stage)
        for path in (*spec.deps, *spec.outs):
            where = folder / path
            if where.exists() or path.name in ("metrics", "plots", "provenance"):
                continue
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(f"{path}\n")
    (folder / "params.resolved.json").write_text(json.dumps(resolved))
    dvc(folder, "init", "--no-scm", "--quiet")
    dvc(folder, "commit", "--force", "--quiet")
    assert stale(folder) == set()
    return folder


@contextlib.contextmanager
def added(folder: Path, name: str, text: str = "VALUE = 1\n") -> Iterator[None]:
    """The file with `text` at its end, as long as the block lasts."""
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((before or b"") + text.encode())
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)
        for parent in made:
            parent.rmdir()


def readers(folder: str) -> set[str]:
    return {stage for stage in RUN if Path(folder) in declared(ROOT / "dvc.yaml", stage).deps}


def test_caches_swap_files_and_notes_make_nothing_stale(project: Path) -> None:
    with contextlib.ExitStack() as stack:
        for name in HARMLESS:
            stack.enter_context(added(project, name))
        assert stale(project) == set()


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("rlhf/ppo/brand_new.py", "rlhf/ppo"),
        pytest.param("rlhf/judge/deeper/brand_new.py", "rlhf/judge", marks=pytest.mark.thorough),
        ("rlhf/report/templates/extra.html", "rlhf/report"),
        pytest.param("rlhf/evaluate/people.py", "rlhf/evaluate", marks=pytest.mark.thorough),
        pytest.param("rlhf/reward/fit.py", "rlhf/reward", marks=pytest.mark.thorough),
    ],
)
def test_code_and_templates_make_their_own_stage_stale(project: Path, name: str, room: str) -> None:
    assert readers(room)
    with added(project, name, "\n# changed\n"):
        assert stale(project) == readers(room)


def test_editing_reward_or_evaluate_leaves_what_comes_before(project: Path) -> None:
    assert not readers("rlhf/reward") & {"prepare", "base", "sft"}
    assert not readers("rlhf/evaluate") & {"prepare", "base", "sft", "reward", "ppo"}


def test_what_we_leave_out_of_fingerprints_is_what_dvc_ignores(project: Path) -> None:
    names = [
        *HARMLESS, "rlhf/ppo/step.py", "rlhf/new/x.py", "rlhf/report/templates/page.css",
        "rlhf/report/templates/a/b.html", "rlhf/report/other/page.css", "stages/ppo.py",
        "stages/__pycache__/ppo.cpython-311.pyc", "params.yaml",
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(added(project, name, ""))
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "check-ignore", *names],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
    leave_out = ignored(project)
    assert {name for name in names if leave_out(Path(name))} == set(done.stdout.split())


def test_a_run_is_resumed_though_a_cache_has_appeared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    deps = declared(Path("dvc.yaml"), "ppo").deps

    def now() -> str:
        return fingerprint({}, deps, leave_out=ignored())

    before = now()
    with contextlib.ExitStack() as stack:
        for name in HARMLESS:
            stack.enter_context(added(project, name))
        assert now() == before
    with added(project, "rlhf/ppo/step.py", "\n# changed\n"):
        assert now() != before
