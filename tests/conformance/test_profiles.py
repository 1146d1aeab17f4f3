"""Tiny random models in the shape of the profiles' own: heads, rotary table, norms, ties as their configs have them."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.conformance.run import run_conformance
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml
from rlhf.models.fast.backbone import FastBackbone
from rlhf.models.policy.backbone import Backbone
from tests.chat_families import FAMILIES
from tests.conformance.kinds import cpu
from tests.conformance.test_conformance import gap
from tests.model_fixtures import save_model

ROOT = Path(__file__).resolve().parents[2]

# From each config.json, but for the sizes: four numbers a head, two layers, a tiny vocabulary.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm2": ("llama", {
        "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 36, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}, "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }),
    "qwen2.5-0.5b": ("qwen2", {
        "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 56, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "max_position_embeddings": 32768,
        "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 21,
    }),
    "llama-3.2-1b": ("llama", {
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 128, "head_dim": 4, "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        },
        "max_position_embeddings": 131072, "tie_word_embeddings": True,
    }),
}  # fmt: skip
ENGINES = {"smollm2": "fast", "qwen2.5-0.5b": "plain", "llama-3.2-1b": "fast"}
TEMPLATES = {"smollm2": "smollm2", "qwen2.5-0.5b": "qwen2.5", "llama-3.2-1b": "llama3"}


def make(profile: str, folder: Path) -> Path:
    kind, shape = SHAPES[profile]
    tokenizer = FAMILIES[TEMPLATES[profile]].tokenizer()
    tokens = {"bos_token_id": 0, "eos_token_id": tokenizer.eos_token_id, "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(kind, num_hidden_layers=2, intermediate_size=48, **tokens, **shape)
    return save_model(AutoModelForCausalLM.from_config(config), tokenizer, folder, seed=4)


@pytest.mark.parametrize("profile", SHAPES)
def test_engines_compute_a_model_of_the_profiles_shape(tmp_path: Path, profile: str) -> None:
    layout, runtime = Layout(tmp_path), cpu()
    make(profile, layout.base)
    metrics = run_conformance(layout, targets="auto", longest=60, runtime=runtime)
    assert metrics["conformance_engine"] == ENGINES[profile]
    assert gap(Backbone.load(layout.base, {}, dtype=runtime.dtype, device="cpu"), layout.base) < 1e-3
    if ENGINES[profile] == "fast":
        assert gap(FastBackbone.load(layout.base, {}, dtype=runtime.dtype, device="cpu"), layout.base) < 1e-3


@pytest.mark.parametrize("profile", SHAPES)
def test_the_profile_writes_prompts_by_the_models_own_template(profile: str) -> None:
    own = read_yaml(ROOT / "profiles" / f"{profile}.yaml")
    assert own["data"]["template"] == "chat"
    assert own["base"]["source"] == "hub"
    assert own["sft"]["lora"]["targets"] == "auto"
