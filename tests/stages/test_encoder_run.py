"""The whole pipeline with a referee on a sentence encoder, by the stages' own commands."""

import json
import shutil
from pathlib import Path

import pytest

from rlhf.offline.methods import METHODS
from tests.stages.forker import Forker
from tests.stages.project import MICRO, Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]
STAGES = ("resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate", "diagnose")
STAGES += (*(f"offline@{method}" for method in METHODS), "compare")


@pytest.mark.thorough
def test_every_reader_of_the_referee_scores_with_the_encoder(
    forker: Forker, tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    changes = {"referee.backbone": "inputs/encoder/tiny", "ppo.validation_every": 1, "ppo.validation_by": "referee"}
    project = Project.copy(tmp_path, MICRO | changes, forker)
    encoder = shutil.copytree(tiny_encoder_dir, tmp_path / "inputs" / "encoder" / "tiny")
    for stage in STAGES:
        ended = forker.run(stage, project.folder)
        assert ended.code == 0, ended.said
        if stage == "reward":
            shutil.rmtree(encoder)  # what follows has the copy in artifacts/referee
    found = {
        name: json.loads(project.read(f"metrics/{name}.json")) for name in ("reward", "ppo", "evaluate", "compare")
    }
    assert found["reward"]["reward_referee_encoder"].startswith("bert, 2 layers, 24 wide")
    assert isinstance(found["reward"]["reward_referee_beats_length"], bool)
    assert found["reward"]["reward_referee_over_length_low"] <= found["reward"]["reward_referee_over_length"]
    assert found["ppo"]["ppo_validation_by"] == "referee"
    assert 0 <= found["evaluate"]["eval_referee_winrate"] <= 1
    assert found["evaluate"]["eval_referee_replies_cut"] >= 0
    assert "compare_referee_ppo" in found["compare"]
    record = json.loads(project.read("provenance/reward.json"))
    assert "inputs/encoder/tiny" in record["inputs"]
    assert record["params"]["referee.backbone"] == "inputs/encoder/tiny"
    card = project.read("artifacts/referee/README.md").decode()
    assert "A scalar head on what a frozen sentence encoder says" in card
    assert "`reward_referee_encoder`" in card
