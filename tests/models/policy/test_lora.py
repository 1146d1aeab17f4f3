"""Where adapters attach, and how they are configured, for each architecture."""

from pathlib import Path

import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.lora import lora_config, resolve_targets
from rlhf.models.text.load import load_model
from tests.model_fixtures import make_neox


def test_targets_are_the_attention_projections(tiny_model_dir: Path, tiny_llama_dir: Path, tmp_path: Path) -> None:
    def auto(folder: Path) -> list[str]:
        return resolve_targets(load_model(folder, dtype=torch.float32, device="cpu"), "auto")

    assert auto(tiny_model_dir) == ["c_attn", "c_proj"]
    assert auto(tiny_llama_dir) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert auto(make_neox(tmp_path / "neox")) == ["dense", "query_key_value"]


def test_a_wrong_target_names_the_allowed_ones(tiny_model_dir: Path) -> None:
    model = load_model(tiny_model_dir, dtype=torch.float32, device="cpu")
    assert resolve_targets(model, ["c_proj", "c_attn"]) == ["c_attn", "c_proj"]
    with pytest.raises(UserError, match=r"'q_proj' is no layer of GPT2LMHeadModel; allowed: \['c_attn', 'c_fc'"):
        resolve_targets(model, ["q_proj"])


def test_config_knows_transposed_weights(tiny_model_dir: Path, tiny_llama_dir: Path) -> None:
    for folder, transposed in ((tiny_model_dir, True), (tiny_llama_dir, False)):
        model = load_model(folder, dtype=torch.float32, device="cpu")
        config = lora_config(model, rank=4, alpha=8.0, dropout=0.0, targets="auto", base="artifacts/base")
        assert config.fan_in_fan_out is transposed
        assert config.base_model_name_or_path == "artifacts/base"
