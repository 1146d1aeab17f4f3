"""The end of a training stage: what it writes, in which order, and that checkpoints outlive all of it."""

import json
from pathlib import Path

import pytest

from rlhf.core.artifacts import sha256_tree, write_text
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from stages.cli import Run


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data.jsonl", "{}\n")
    folder = Layout().offline("dpo")
    write_text(folder / "weights", "w")
    return folder


def saved(run: Run) -> Checkpoints:
    """A checkpoint of the run, as `Run.checkpoints` would leave it."""
    checkpoints = Checkpoints(Path("checkpoints/run"), every_s=1e9, every_steps=0)
    checkpoints.save(1, {}, {})
    run._checkpoints = checkpoints
    return checkpoints


def test_metrics_cards_and_provenance_are_written_and_checkpoints_go(model: Path) -> None:
    run = Run("offline", "dpo")
    checkpoints = saved(run)
    run.finish({"offline_dpo_run": True}, inputs=[Path("data.jsonl")], outputs=[model], cards=[model])
    assert json.loads(Path("metrics/offline_dpo.json").read_text()) == {"offline_dpo_run": True}
    assert "offline_dpo_run" in (model / "README.md").read_text()
    provenance = json.loads(Path("provenance/offline_dpo.json").read_text())
    assert provenance["stage"] == "offline@dpo"
    assert list(provenance["inputs"]) == ["data.jsonl"]
    assert provenance["outputs"][model.as_posix()] == sha256_tree(model)  # the card included
    assert checkpoints.latest() is None


def test_a_stage_without_cards_or_checkpoints(model: Path) -> None:
    Run("offline", "dpo").finish({"offline_dpo_run": False}, inputs=[], outputs=[])
    assert [path.name for path in model.iterdir()] == ["weights"]
    assert json.loads(Path("provenance/offline_dpo.json").read_text())["outputs"] == {}


def test_what_cannot_be_written_leaves_the_checkpoints(model: Path) -> None:
    run = Run("offline", "dpo")
    checkpoints = saved(run)
    with pytest.raises(ValueError, match="offline_dpo_loss is nan"):
        run.finish({"offline_dpo_loss": float("nan")}, inputs=[], outputs=[], cards=[])
    assert checkpoints.latest() is not None
