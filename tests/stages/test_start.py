"""Stale parameters and inputs that stayed behind, in real DVC commands."""

import re

import pytest

from tests.stages.forker import Forker
from tests.stages.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]


@pytest.fixture(scope="module")
def project(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose parameters are resolved."""
    project = Project.copy(tmp_path_factory.mktemp("start") / "project", {}, forker)
    project.dvc("repro", "resolve")
    project.commit("resolved")
    return project


def said(project: Project, *command: str) -> str:
    done = project.dvc(*command, check=False)
    return done.stdout + done.stderr


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_an_experiment_aside_without_an_input_is_refused_and_with_it_runs(project: Project) -> None:
    sheet = project.folder / "inputs" / "people" / "ann.csv"
    sheet.write_text("id,better\n")
    command = ("exp", "run", "--temp", "-S", "seed=1", "resolve")
    (error,) = errors(said(project, *command))
    assert "inputs/people/ann.csv is in the workspace and not in this experiment" in error
    project.dvc("add", "inputs/people/ann.csv")
    assert project.git("status", "--porcelain").split() == ["A", "inputs/people/ann.csv.dvc"]
    assert errors(said(project, *command)) == []
    project.git("reset", "-q", "--hard")
    sheet.unlink()


@pytest.mark.thorough
def test_a_stage_alone_is_refused_after_an_edit_and_a_chain_is_not(project: Project) -> None:
    project.set({"seed": 2})
    (error,) = errors(said(project, "repro", "-s", "-f", "sft"))
    assert "seed is 0, and would be 2" in error
    assert errors(said(project, "repro", "resolve")) == []
    assert not [line for line in errors(said(project, "repro", "-s", "-f", "sft")) if "would be" in line]
    project.git("reset", "-q", "--hard")


@pytest.mark.thorough
def test_what_dvc_tracks_comes_along_to_a_clone(project: Project) -> None:
    """DVC passes by folders that .gitignore seems to ignore, with its own files in them."""
    for name in ("people/ann.csv", "benchmarks/a.jsonl", "preferences/p.jsonl", "model/llama/w", "reward/r/x.py"):
        path = project.folder / "inputs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        whole = path.parent if path.parent.name == "llama" else path  # a model is a folder
        project.dvc("add", str(whole.relative_to(project.folder)))
        path.unlink()
    project.dvc("checkout", *re.findall(r"inputs/\S+\.dvc", project.git("status", "--porcelain", "-uall")))
    for name in ("people/ann.csv", "benchmarks/a.jsonl", "preferences/p.jsonl", "model/llama/w"):
        assert (project.folder / "inputs" / name).read_text() == name
    project.git("reset", "-q", "--hard")
    project.git("clean", "-fdqx", "inputs")
