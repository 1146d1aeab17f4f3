"""`dvc exp run --temp` and queued experiments, which work in a new folder each time, resume after a kill."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.checkpoint import checkpoint_root
from tests.stages.forker import Forker
from tests.stages.project import MICRO, Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

SMALL = MICRO | {
    "data.synthetic.corpus_documents": 600, "base.pretrain.validation_share": 0.05, "base.pretrain.steps": 10,
    "ppo.iterations": 24, "runtime.checkpoint_steps": 2,
}  # fmt: skip
WRITTEN = ("metrics/ppo.json", "plots/ppo.csv", "provenance/ppo.json")  # the last holds the policy's hash


@pytest.fixture(scope="module")
def project(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Everything before `ppo` has run, and DVC knows."""
    project = Project.copy(tmp_path_factory.mktemp("experiments") / "project", SMALL, forker)
    done = ("resolve", "prepare", "base", "conformance", "sft", "reward")
    for stage in done:
        assert forker.run(stage, project.folder).code == 0
    project.dvc("commit", "-f", *done)
    project.commit("up to the reward model")
    return project


def undisturbed(project: Project, forker: Forker, kl_coef: float) -> dict[str, bytes]:
    """What `ppo` writes when nothing happens, run in the workspace without DVC."""
    project.set({"ppo.kl_coef": kl_coef})
    for stage in ("resolve", "ppo"):
        assert forker.run(stage, project.folder).code == 0
    found = {name: project.read(name) for name in WRITTEN}
    project.git("checkout", "-q", "params.yaml", "params.resolved.json")
    project.git("clean", "-fdqx", "artifacts/ppo", "artifacts/rollouts", *WRITTEN)
    return found


def until(done: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(project: Project, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *command], cwd=project.folder, env=project.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_while_training(project: Project, *experiment: str) -> None:
    process = start(project, "exp", "run", "--temp", *experiment)
    until(lambda: list(project.folder.glob(".checkpoints/ppo-*/step-*")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def in_queue(project: Project, *experiment: str) -> str:
    """Run it through the queue; what it printed."""
    project.dvc("exp", "run", "--queue", *experiment)
    try:
        assert start(project, "queue", "start").wait() == 0  # the worker goes on behind our back
        until(lambda: re.search(r"resumed .*(Success|Failed)", project.dvc("queue", "status").stdout))
        return project.dvc("queue", "logs", "resumed").stdout
    finally:
        project.dvc("queue", "stop", "--kill", check=False)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["temp", "queue"])
def test_a_killed_experiment_resumes_in_its_next_folder(how: str, project: Project, forker: Forker) -> None:
    kl_coef = {"temp": 0.3, "queue": 0.4}[how]
    experiment = ("ppo", "-S", f"ppo.kl_coef={kl_coef}")
    whole = undisturbed(project, forker, kl_coef)
    kill_while_training(project, *experiment)
    if how == "temp":
        done = project.dvc("exp", "run", "--temp", *experiment, "-n", "aside")
        said = done.stdout + done.stderr
    else:
        said = in_queue(project, *experiment, "-n", "resumed")
    name = {"temp": "aside", "queue": "resumed"}[how]
    (reference,) = re.findall(f"refs/exps/.*/{name}$", project.git("for-each-ref", "--format=%(refname)"), re.MULTILINE)
    assert {path: project.git("show", f"{reference}:{path}").encode() for path in WRITTEN} == whole
    assert re.search(r"ppo: resuming after iteration \d+ of 24", said)
    assert not list((project.folder / ".checkpoints").glob("ppo-*"))


def test_an_experiment_names_the_folder_that_it_resumes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule on its own: below the project's .dvc the project's folder, elsewhere the current one."""
    monkeypatch.delenv("RLHF_CHECKPOINT_DIR", raising=False)
    project = tmp_path / "project"
    inside = project / ".dvc" / "tmp" / "exps" / "tmp1"
    inside.mkdir(parents=True)
    for folder, root, expected in (
        (inside, str(project), project / ".checkpoints"),
        (project, str(project), Path(".checkpoints")),
        (tmp_path, str(project), Path(".checkpoints")),
        (inside, "", Path(".checkpoints")),
    ):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DVC_ROOT", root)
        assert checkpoint_root(Path(".checkpoints")) == expected
