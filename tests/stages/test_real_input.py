"""The whole pipeline on data and models that no one in this project wrote; skipped where they are absent."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from tests.stages.forker import Forker
from tests.stages.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline, pytest.mark.thorough]

FEW: dict[str, object] = {
    "profile": "own",
    "runtime.device": "cpu",
    "runtime.threads": 1,
    "sft.epochs": 1,
    "sft.eval_examples": 8,
    "sft.samples": 4,
    "sft.sample_tokens": 12,
    "reward.epochs": 5,
    "reward.normalise_prompts": 16,
    "reward.response_tokens": 12,
    "ppo.iterations": 2,
    "ppo.epochs": 2,
    "ppo.response_tokens": 12,
    "evaluate.prompts": 16,
    "evaluate.response_tokens": 12,
    "evaluate.exact_kl_prompts": 4,
    "evaluate.samples": 8,
}
STAGES = ("prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")


def repro(forker: Forker, folder: Path, changes: dict[str, object]) -> tuple[Project, dict[str, Any]]:
    """All stages by the real `dvc repro`; every metric by its name."""
    project = Project.copy(folder, FEW | changes, forker)
    project.dvc("repro")
    found: dict[str, Any] = {}
    for stage in STAGES:
        found |= json.loads(project.read(f"metrics/{stage}.json"))
    return project, found


def load_with_plain_peft(project: Project, name: str) -> PeftModel:
    """An adapter as any user of peft loads it, from the project's root."""
    base = AutoModelForCausalLM.from_pretrained(project.folder / "artifacts" / "base")
    model: PeftModel = PeftModel.from_pretrained(base, project.folder / "artifacts" / name)
    config = json.loads(project.read(f"artifacts/{name}/adapter_config.json"))
    assert config["base_model_name_or_path"] == "artifacts/base"
    return model


def answers(project: Project, name: str) -> torch.Tensor:
    """Next-token logits of an adapter after a prompt; of the base alone for "base"."""
    model = load_with_plain_peft(project, "ppo" if name == "base" else name)
    tokenizer = AutoTokenizer.from_pretrained(project.folder / "artifacts" / "sft")
    inputs = tokenizer("\n\nHuman: How are you?\n\nAssistant:", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    bare = model.disable_adapter() if name == "base" else contextlib.nullcontext()
    with torch.no_grad(), bare:
        logits: torch.Tensor = model(**inputs).logits[0, -1]
    return logits


def check_training(project: Project, found: dict[str, Any]) -> None:
    """What holds of any run that went well, however short."""
    assert found["ppo_stop_reason"] == "completed"
    assert found["ppo_iterations"] == 2
    assert found["ppo_check_ratio_gap"] < 1e-3
    assert found["sft_perplexity_after"] < found["sft_perplexity_before"]
    assert 0 <= found["reward_accuracy_low"] <= found["reward_accuracy"] <= found["reward_accuracy_high"] <= 1
    assert found["eval_prompts"] > 0
    assert 0 <= found["eval_rm_winrate"] <= 1
    assert abs(found["eval_kl"]) < 5
    base, sft, ppo = (answers(project, name) for name in ("base", "sft", "ppo"))
    assert not torch.equal(base, sft)
    assert not torch.equal(sft, ppo)


def test_anthropic_hh_on_a_pretrained_llama(forker: Forker, shared_data: Path, tmp_path: Path) -> None:
    """The counts are those of the data's own README: 2354 rows, 2339 after ties, empty replies and mismatches."""
    project, found = repro(
        forker,
        tmp_path,
        {
            "data.path": str(shared_data / "hh-helpful-base"),
            "data.format": "hh",
            "data.on_bad_row": "skip",
            "data.max_tokens": 200,
            "data.max_pairs": 160,
            "base.path": str(shared_data / "stories260K"),
            "ppo.batch": 8,
            "ppo.minibatch": 4,
        },
    )
    assert found["prepare_rows_read"] == 2354
    assert found["prepare_rows_set_aside"] == 2354 - 2339
    assert found["prepare_rows_kept"] == 160
    counts = ("prepare_rows_kept", "prepare_rows_dropped", "prepare_rows_set_aside")
    assert sum(found[name] for name in counts) == found["prepare_rows_read"]
    assert found["prepare_prompts_on_two_sides"] == 0
    assert found["prepare_vocabulary"] == 512
    assert found["base_parameters"] == 260_032
    assert (project.folder / "artifacts/prepare/pairs/set_aside.jsonl").read_text().count("\n") == 15
    check_training(project, found)


def test_a_checkpoint_of_gpt2s_shape_with_the_real_tokenizer(forker: Forker, shared_data: Path, tmp_path: Path) -> None:
    """Two layers and a width of 64, but GPT-2's architecture, context and its vocabulary of 50257; random weights."""
    model = tmp_path / "model"
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4)).save_pretrained(model)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(shared_data / "gpt2-tokenizer" / name, model)
    (tmp_path / "project").mkdir()
    project, found = repro(
        forker,
        tmp_path / "project",
        {
            "data.path": str(shared_data / "polite-rewrites"),
            "data.on_bad_row": "skip",
            "data.columns.prompt": "instruction",
            "data.columns.extra": "input",
            "data.max_pairs": 80,
            "base.path": str(model),
            "sft.lr": 1.0e-2,
            "sft.warmup_steps": 2,
            "ppo.batch": 4,
            "ppo.minibatch": 2,
        },
    )
    assert found["prepare_rows_read"] == 1100
    assert found["prepare_vocabulary"] == 50257
    config = json.loads(project.read("artifacts/sft/adapter_config.json"))
    assert {"c_attn"} <= set(config["target_modules"])
    check_training(project, found)
