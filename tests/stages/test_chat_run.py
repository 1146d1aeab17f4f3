"""The whole pipeline with the tokenizer's own chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.chat_families import make_chat_model
from tests.stages.forker import Forker
from tests.stages.project import Project
from tests.stages.test_real_input import FEW

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]
STAGES = ("resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")


def rows(count: int) -> list[dict[str, str]]:
    things = ("cat", "bear", "fish", "frog", "car", "box", "hat", "cake")
    return [
        {
            "prompt": f"Tell me about the {things[k % 8]} number {k}. What does <|im_end|> mean?",
            "chosen": f"The {things[k % 8]} was happy to play {k} times.",
            "rejected": f"No. The {things[k % 8]} is bad.",
        }
        for k in range(count)
    ]


def read(project: Project, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.read(name).decode().splitlines()]


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["qwen2.5", "llama2"])
def test_every_stage_reads_and_writes_conversations(forker: Forker, tmp_path: Path, family: str) -> None:
    model = make_chat_model(tmp_path / "model", family)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(80)))
    changes: dict[str, object] = {
        "data.template": "chat", "data.path": str(data), "base.path": str(model), "data.max_tokens": 240,
        "ppo.batch": 8, "ppo.minibatch": 4, "ppo.microbatch": 4, "ppo.max_prompt_tokens": 200, "ppo.iterations": 2,
        "evaluate.ood_prompts": 0,
    }  # fmt: skip
    project = Project.copy(tmp_path / "project", FEW | changes, forker)
    for stage in STAGES:
        ended = forker.run(stage, project.folder)
        assert ended.code == 0, ended.said
    tokenizer = AutoTokenizer.from_pretrained(model)
    for row in read(project, "artifacts/prepare/pairs/train.jsonl"):
        assert [turn["role"] for turn in row["conversation"]] == ["user"]
        asked = [{"role": "user", "content": row["conversation"][0]["content"]}]
        written = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert row["prompt"].replace("\ufdd0", "") == written
    metrics = json.loads(project.read("metrics/prepare.json"))
    assert metrics["prepare_control_tokens_in_text"] == (80 if family == "qwen2.5" else 0)
    assert json.loads(project.read("metrics/ppo.json"))["ppo_stop_reason"] == "completed"
    assert "User: Tell me about" in project.read("artifacts/evaluate/people.csv").decode()
    assert read(project, "artifacts/evaluate/samples.jsonl")[0]["prompt"].startswith("User: Tell me about")
    assert read(project, "artifacts/sft_samples.jsonl")[0]["prompt"].startswith("User: Tell me about")
