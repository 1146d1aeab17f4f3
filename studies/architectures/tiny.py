"""A tiny random model of any causal architecture of transformers, made of nothing but its config class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from rlhf.core.artifacts import read_json
from rlhf.prepare.tokenizer import train_tokenizer

TEXTS = ("Human: What is the capital of France?", "Assistant: The capital of France is Paris, a city on a river.")
VOCABULARY = 320
_LARGEST = 30_000_000  # parameters; more means that a size went by a name that is not below

# Sizes by the names that config classes give them. A name that a class does not have is left out.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("vocab_size", "vocab_size_per_layer_input", "text_vocab_size", "audio_vocab_size", "padded_vocab_size"),
        VOCABULARY,
    ),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim", "dim", "emb_dim"), 32
    ),
    **dict.fromkeys(
        (
            "intermediate_size", "ffn_dim", "n_inner", "d_ff", "dff", "moe_intermediate_size", "ffn_hidden_size",
            "decoder_ffn_dim", "encoder_ffn_dim", "shared_expert_intermediate_size", "d_inner", "dim_ff",
            "intermediate_size_mlp", "shared_intermediate_size", "moe_shared_expert_intermediate_size",
            "expert_ffn_hidden_size", "dense_intermediate_size", "feed_forward_size", "block_ff_dim",
        ),
        64,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
            "num_decoder_layers", "num_encoder_layers",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
            "encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads",
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "attention_groups_num", "n_head_kv"), 2),
    **dict.fromkeys(("head_dim", "attention_head_size", "swa_head_dim", "global_head_dim", "d_kv", "kv_channels"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), 128),
    **dict.fromkeys(("sliding_window", "attention_window", "attention_chunk_size", "window_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "num_experts_per_token", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    "num_shared_experts": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "o_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4, "qk_head_dim": 8, "v_head_dim": 8, "rotary_dim": 4, "hidden_size_per_layer_input": 8,
    "lru_width": 32, "state_size": 4, "mamba_d_state": 4, "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_d_head": 8,
    "mamba_head_dim": 8, "ssm_state_size": 4, "n_mamba_heads": 2, "mamba_headdim": 8, "chunk_size": 8,
    "mamba_chunk_size": 8, "time_step_rank": 4, "mamba_dt_rank": 4, "conv_dim": 32, "index_n_heads": 4,
    "index_head_dim": 8, "index_topk": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "rotary_emb_base": 10000, "image_size": 28, "patch_size": 14,
    "dropout": 0.1, "attention_dropout": 0.1, "hidden_dropout": 0.1,
}  # fmt: skip
_TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}

# What a class's own rules ask beside the sizes; a size that says "left out" keeps the class's own value.
_OWN: dict[str, dict[str, Any]] = read_json(Path(__file__).parent / "own_rules.json")
_LEFT_OUT = "left out"


def tiny_config(kind: str) -> PreTrainedConfig:
    """Make a config of architecture `kind` with every size small."""
    return _shrunk(CONFIG_MAPPING[kind], _OWN.get(kind, {}))


def make_model(kind: str, folder: Path) -> PreTrainedModel:
    """Write a tiny model of architecture `kind` and its tokenizer to `folder`.

    Raises:
        ValueError: the model would not be tiny.
    """
    config = tiny_config(kind)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"{size:,} parameters: not tiny")
    torch.manual_seed(5)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draw = torch.Generator().manual_seed(6)
    with torch.no_grad():  # wide enough that attention, positions and norms matter
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(folder)
    train_tokenizer(TEXTS, 300).save_pretrained(folder)
    return model


def _shrunk(cls: type[PreTrainedConfig], own: Mapping[str, Any]) -> PreTrainedConfig:
    usual = cls()
    values = {name: value for name, value in _SIZES.items() if _has(usual, name)}
    values |= {name: value for name, value in _TOKENS.items() if hasattr(usual, name)}
    for name, part in (cls.sub_configs or {}).items():
        inner: Any = (
            type(getattr(usual, name, None)) if isinstance(getattr(usual, name, None), PreTrainedConfig) else part
        )
        if getattr(usual, name, None) is not None and hasattr(inner, "sub_configs"):
            values[name] = _shrunk(inner, _OWN.get(inner.model_type, {}) | dict(own.get(name, {}))).to_dict()
    asked = {name: value for name, value in own.items() if name not in values or not isinstance(values[name], dict)}
    return cls(**{name: value for name, value in (values | asked).items() if value != _LEFT_OUT})


def _has(config: PreTrainedConfig, name: str) -> bool:
    """Tell whether a size is one of the class's own. None means "not used" (a sliding window) or "reckoned"."""
    if name not in {*config.to_dict(), *config.attribute_map}:
        return False
    try:
        return getattr(config, name, None) is not None
    except RuntimeError:  # one that varies from layer to layer
        return False
