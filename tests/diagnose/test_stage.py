"""The command and `dvc repro`, on metrics written by hand."""

import json
import subprocess
from pathlib import Path

import pytest

from rlhf.core.artifacts import write_json, write_text
from rlhf.core.dag import declared
from rlhf.core.layout import Layout
from tests.stages.forker import Forker
from tests.stages.project import Project

pytestmark = pytest.mark.pipeline

HEALTHY: dict[str, dict[str, object]] = {
    "prepare": {"prepare_prompts": 10},
    "reward": {"reward_accuracy": 0.7, "reward_accuracy_low": 0.68, "reward_over_length": 0.2},
    "ppo": {"ppo_stop_reason": "completed"},
    "evaluate": {"eval_ended_sft": 0.95, "eval_ended_ppo": 0.97, "eval_length_sft": 15.0, "eval_length_ppo": 15.0},
}


@pytest.fixture
def project(forker: Forker, tmp_path: Path) -> Project:
    """The pipeline with its parameters resolved and the results of a run of which most was not measured."""
    project = Project.copy(tmp_path / "project", {"diagnose.termination.unended.failed": 0.5}, forker)
    project.run("python", "-m", "stages.resolve")
    results(project, {})
    return project


def results(project: Project, changes: dict[str, object]) -> None:
    at = Layout(project.folder)
    for stage, metrics in HEALTHY.items():
        write_json(at.metrics(stage), {name: changes.get(name, value) for name, value in metrics.items()})
    for name in ("ppo", "overoptimisation"):
        write_text(at.plot(name), "score\n0.1\n0.2\n")


def diagnosed(project: Project) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "stages.diagnose", check=False)


def test_the_command_writes_and_prints_and_the_report_fails_only_where_it_was_told_to(project: Project) -> None:
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
    project.run("python", "-m", "stages.resolve")
    (project.folder / "metrics" / "diagnose.json").unlink()
    done = diagnosed(project)
    assert done.returncode == 1
    said = "diagnose: termination failed (evaluate.fail_on): the pipeline fails after its report is written\n"
    assert done.stderr == said
    assert json.loads(project.read("metrics/diagnose.json"))["diagnose_termination"] == "failed"
    done = project.run("python", "-m", "stages.report", check=False)
    assert done.returncode == 1
    because, where = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert because.startswith("error: termination failed (evaluate.fail_on): 40% of PPO's replies end")
    assert where == "error: the report of this run: reports/index.html"
    assert (
        "The pipeline fails for termination, as `evaluate.fail_on` asks" in project.read("reports/report.md").decode()
    )
    assert b"</html>" in project.read("reports/index.html")


def test_an_unknown_verdict_is_an_error_before_any_work(project: Project) -> None:
    project.set({"evaluate.fail_on": ["boredom"]})
    done = project.run("python", "-m", "stages.resolve", check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for word in ("params.yaml", "evaluate.fail_on.0", "reward_hacking", "termination", "'boredom'"):
        assert word in line


def test_thresholds_in_the_wrong_order_are_an_error_before_any_work(project: Project) -> None:
    project.set({"diagnose.termination.unended.failed": 0.01})
    done = project.run("python", "-m", "stages.resolve", check=False)
    assert "diagnose.termination.unended: suspect may be at most failed" in done.stderr


@pytest.mark.slow
def test_dvc_repro_fails_on_it_and_there_is_a_report(project: Project) -> None:
    for command in (["init", "-q", "-f"], ["add", "-A"], ["commit", "-qm", "results"]):
        (project.dvc if command[0] == "init" else project.git)(*command)
    results(project, {"eval_ended_ppo": 0.4})
    project.set({"evaluate.fail_on": ["termination"]})
    project.dvc("repro", "--single-item", "resolve")
    assert "diagnose: failed" in project.dvc("repro", "--single-item", "diagnose").stdout
    for dep in declared(project.folder / "dvc.yaml", "report").deps:  # of the stages that were not run
        if not (project.folder / dep).exists():
            write_text(project.folder / dep, "{}" if dep.suffix == ".json" else "")
    failed = project.dvc("repro", "--single-item", "report", check=False)
    assert failed.returncode != 0
    assert "error: termination failed (evaluate.fail_on): 40% of PPO's replies end" in failed.stderr
    assert "error: the report of this run: reports/index.html" in failed.stderr
    assert b"</html>" in project.read("reports/index.html")
    assert project.dvc("repro", "--single-item", "report", check=False).returncode != 0  # it is not taken for done

    project.set({"evaluate.fail_on": []})
    project.dvc("repro", "--single-item", "resolve")
    project.dvc("repro", "--single-item", "report")
    resolved = json.loads(project.read("params.resolved.json"))
    assert "fail_on" not in resolved["evaluate"]  # so that evaluate is not run again for it
