"""A sweep over two machines, as docs/clusters.md has it: two clones, a bare repository, one job each, collected in a
third clone. Real git and real DVC; the stage takes no time."""

import json
import os
from pathlib import Path

import pytest

from rlhf.sweep.read import read_experiments
from rlhf.sweep.settings import settings
from tests.examples.test_cluster import CLUSTER
from tests.stages.forker import Forker
from tests.storage.project import Project

pytestmark = [pytest.mark.pipeline, pytest.mark.thorough]
MAKE = """
import json, pathlib, re
text = pathlib.Path("params.yaml").read_text()
kl_coef, seed = (float(re.search(name + r": (\\S+)", text)[1]) for name in ("kl_coef", "seed"))
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("artifacts/ppo").mkdir(parents=True)
pathlib.Path("artifacts/ppo/weights.txt").write_text(f"{kl_coef} {seed}")
pathlib.Path("metrics/evaluate.json").write_text(json.dumps({"eval_kl": kl_coef * 10, "eval_gold_ppo": kl_coef + seed}))
"""


@pytest.fixture
def origin(forker: Forker, tmp_path: Path) -> Project:
    """A project with a shared folder as its remote, whose home is a bare repository."""
    project = Project(tmp_path / "project", tmp_path / "home", str(forker.python))
    for folder in (project.folder, project.home, tmp_path / "bin"):
        folder.mkdir()
    (tmp_path / "bin" / "dvc").write_text(f'#!/usr/bin/env bash\nexec {forker.python} -m dvc "$@"\n')
    (tmp_path / "bin" / "dvc").chmod(0o755)
    (project.folder / "make.py").write_text(MAKE)
    (project.folder / "params.yaml").write_text("seed: 0\nppo:\n  kl_coef: 0.2\n")
    stage = {
        "cmd": "python make.py", "deps": ["make.py"], "params": ["seed", "ppo.kl_coef"], "outs": ["artifacts/ppo"],
        "metrics": [{"metrics/evaluate.json": {"cache": False}}],
    }  # fmt: skip
    (project.folder / "dvc.yaml").write_text(json.dumps({"stages": {"evaluate": stage}}))
    project.run("git", "init", "-q", "-b", "main")
    project.dvc("init", "-q")
    project.dvc("remote", "add", "-d", "storage", str(tmp_path / "store"))
    project.dvc("repro", "-q")
    project.dvc("push", "-q")
    project.commit("a run")
    project.run("git", "clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    return project


def test_two_machines_and_one_table(origin: Project, tmp_path: Path) -> None:
    at_home = tmp_path / "bare.git"
    for number, (kl_coef, seed) in enumerate([("0.1", "0"), ("0.1", "1"), ("0.5", "0")]):
        machine = Project(tmp_path / f"machine-{number}", origin.home, origin.python)
        origin.run("git", "clone", "-q", str(at_home), str(machine.folder))
        path = os.pathsep.join([str(tmp_path / "bin"), machine.environment()["PATH"]])
        settings_ = ["-S", f"ppo.kl_coef={kl_coef}", "-S", f"seed={seed}"]
        machine.run("bash", str(CLUSTER / "job.sh"), *settings_, PATH=path, RUN=f"job-{number}",
                    CACHE=str(tmp_path / "cache"))  # fmt: skip
    here = Project(tmp_path / "here", origin.home, origin.python)
    origin.run("git", "clone", "-q", str(at_home), str(here.folder))
    names = ["job-0", "job-1", "job-2"]
    assert all(name in here.dvc("exp", "list", "origin") for name in names)
    here.dvc("exp", "pull", "--no-cache", "origin", *names)
    shown = json.loads(here.dvc("exp", "show", "--json", "--num", "1"))
    low, high = settings(read_experiments(shown, "dvc exp show"))
    assert (low.name, low.seeds, high.name, high.seeds) == ("ppo.kl_coef=0.1", (0, 1), "ppo.kl_coef=0.5", (0,))
    assert (low.spreads["eval_kl"].mean, low.spreads["eval_gold_ppo"].mean) == pytest.approx((1.0, 0.6))
    here.dvc("exp", "pull", "--force", "origin", "job-1")  # with its model, from the remote
    here.dvc("exp", "apply", "job-1")
    assert (here.folder / "artifacts" / "ppo" / "weights.txt").read_text() == "0.1 1.0"
