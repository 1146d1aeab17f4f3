"""Every stage leaves its costs behind, in a file that git ignores and that no result depends on."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from stages.cli import Run, stage_command

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from costs import gather  # noqa: E402
from costs import main as gather_files  # noqa: E402


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.resolved.json").write_text('{"seed": 0}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def work(run: Run) -> None:
    """Read one thing, write another."""
    assert run.seed == 0


def test_a_run_leaves_its_costs(project: Path) -> None:
    assert CliRunner().invoke(stage_command("toy")(work), []).exit_code == 0
    found = json.loads((project / ".costs" / "toy.json").read_text())
    assert found["wall_s"] > 0
    assert (found["sections"], found["resumed"]) == (["seed"], False)
    assert len(found["settings"]) == 64
    gather_files(project)
    gathered = json.loads((project / "benchmarks" / "results" / "stages.json").read_text())
    assert gathered["machine"]["cores"] >= 1
    assert gathered["stages"]["toy"]["wall_s"] == float(f"{found['wall_s']:.3g}")


def test_costs_that_cannot_be_written_fail_nothing(project: Path) -> None:
    (project / ".costs").write_text("in the way")
    assert CliRunner().invoke(stage_command("toy")(work), []).exit_code == 0


def test_a_run_that_fails_leaves_none(project: Path) -> None:
    def fail(run: Run) -> None:
        """Read and write nothing."""
        raise KeyboardInterrupt

    assert CliRunner().invoke(stage_command("toy")(fail), []).exit_code == 130
    assert not (project / ".costs").exists()


def test_stages_of_two_machines_are_not_added_up() -> None:
    one = {"machine": {"processor": "a", "gpus": []}, "wall_s": 1.0}
    with pytest.raises(SystemExit, match="2 different machines"):
        gather({"sft": one, "ppo": {**one, "machine": {"processor": "b", "gpus": []}}})
    found = gather({"sft": one, "ppo": {**one, "machine": {"processor": "a", "gpus": ["h"]}}})
    assert found["machine"]["gpus"] == ["h"]  # a stage without torch sees none


def test_git_ignores_them() -> None:
    assert "/.costs/" in (ROOT / ".gitignore").read_text().splitlines()
