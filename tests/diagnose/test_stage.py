"""The command and `dvc repro`, on metrics written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.core.artifacts import write_json, write_text
from rlhf.core.layout import Layout
from tests.stages.project import Project

pytestmark = pytest.mark.pipeline

HEALTHY: dict[str, dict[str, object]] = {
    "prepare": {"prepare_prompts": 10},
    "reward": {"reward_accuracy": 0.7, "reward_accuracy_low": 0.68, "reward_over_length": 0.2},
    "ppo": {"ppo_stop_reason": "completed"},
    "evaluate": {"eval_ended_sft": 0.95, "eval_ended_ppo": 0.97, "eval_length_sft": 15.0, "eval_length_ppo": 15.0},
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The pipeline with its parameters resolved and the results of a run of which most was not measured."""
    project = Project.copy(tmp_path / "project", {"diagnose.termination.unended.failed": 0.5})
    project.run(sys.executable, "-m", "stages.resolve")
    results(project, {})
    return project


def results(project: Project, changes: dict[str, object]) -> None:
    at = Layout(project.folder)
    for stage, metrics in HEALTHY.items():
        write_json(at.metrics(stage), {name: changes.get(name, value) for name, value in metrics.items()})
    for name in ("ppo", "overoptimisation"):
        write_text(at.plot(name), "score\n0.1\n0.2\n")


def diagnosed(project: Project) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "stages.diagnose", check=False)


def test_the_command_writes_prints_and_fails_only_where_it_was_told_to(project: Project) -> None:
    done = diagnosed(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("diagnose: sound\n")
    assert json.loads(project.read("metrics/diagnose.json"))["diagnose_termination"] == "sound"

    results(project, {"eval_ended_ppo": 0.4})
    assert (done := diagnosed(project)).returncode == 0
    assert done.stdout.startswith("diagnose: failed\n")
    page = project.read("artifacts/diagnose.md").decode()
    assert "raise ppo.response_tokens (now 36)" in page

    project.set({"evaluate.fail_on": ["termination", "verbosity"]})
    project.run(sys.executable, "-m", "stages.resolve")
    (project.folder / "metrics" / "diagnose.json").unlink()
    done = diagnosed(project)
    assert done.returncode == 1
    assert [line[:42] for line in done.stderr.splitlines()] == ["error: diagnose: termination failed (evalu"]
    assert json.loads(project.read("metrics/diagnose.json"))["diagnose_termination"] == "failed"


def test_an_unknown_verdict_is_an_error_before_any_work(project: Project) -> None:
    project.set({"evaluate.fail_on": ["boredom"]})
    done = project.run(sys.executable, "-m", "stages.resolve", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in ("params.yaml", "evaluate.fail_on.0", "reward_hacking", "termination", "'boredom'"):
        assert word in line


def test_thresholds_in_the_wrong_order_are_an_error_before_any_work(project: Project) -> None:
    project.set({"diagnose.termination.unended.failed": 0.01})
    done = project.run(sys.executable, "-m", "stages.resolve", check=False)
    assert "diagnose.termination.unended: suspect may be at most failed" in done.stderr


@pytest.mark.slow
def test_dvc_repro_fails_on_it_and_the_results_survive(project: Project) -> None:
    for command in (["init", "-q", "-f"], ["add", "-A"], ["commit", "-qm", "results"]):
        (project.dvc if command[0] == "init" else project.git)(*command)
    results(project, {"eval_ended_ppo": 0.4})
    project.set({"evaluate.fail_on": ["termination"]})
    project.dvc("repro", "--single-item", "resolve")
    failed = project.dvc("repro", "--single-item", "diagnose", check=False)
    assert failed.returncode != 0
    assert "error: diagnose: termination failed (evaluate.fail_on): 40% of PPO's replies end" in failed.stderr
    assert json.loads(project.read("metrics/diagnose.json"))["diagnose_termination"] == "failed"
    assert project.read("artifacts/diagnose.md")

    project.set({"evaluate.fail_on": []})
    project.dvc("repro", "--single-item", "resolve")
    assert "diagnose: failed" in project.dvc("repro", "--single-item", "diagnose").stdout
    resolved = json.loads(project.read("params.resolved.json"))
    assert "fail_on" not in resolved["evaluate"]  # so that evaluate is not run again for it
