"""Tiny random models of kinds that public checkpoints have, and what transformers itself says of them."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf.core.runtime import Runtime, RuntimeParams
from tests.model_fixtures import byte_bpe, save_model

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48, "max_position_embeddings": 128},
    "biogpt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128,
    },
    "opt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
        "max_position_embeddings": 128, "word_embed_proj_dim": 32,
    },
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "bart": {
        "d_model": 32, "decoder_layers": 2, "encoder_layers": 2, "decoder_attention_heads": 4,
        "encoder_attention_heads": 4, "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "max_position_embeddings": 128,
    },
    "modernbert-decoder": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 128, "pad_token_id": 0, "cls_token_id": 0, "sep_token_id": 0,
    },
    "gemma2": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 48, "max_position_embeddings": 128, "final_logit_softcapping": 2.0, "sliding_window": 8,
    },
    "cohere": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": 128, "logit_scale": 0.25,
    },
    "llama": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": 128,
    },
}  # fmt: skip


def make(kind: str, folder: Path, **changes: Any) -> Path:
    """Write a model of the kind with some of its config changed, in save_pretrained form."""
    tokenizer = byte_bpe(320)
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": len(tokenizer)}
    config = AutoConfig.for_model(kind, **(tokens | SIZES[kind] | changes))
    return save_model(AutoModelForCausalLM.from_config(config), tokenizer, folder, seed=4)


def own_logprobs(base: Path, prompt: list[int], response: list[int], adapter: Path | None = None) -> list[float]:
    """What plain transformers and peft say: one sequence, no padding, no cache."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        table = model(input_ids=torch.tensor([prompt + response])).logits[0].double().log_softmax(-1)
    return [float(table[len(prompt) - 1 + step, token]) for step, token in enumerate(response)]


def cpu(dtype: str = "float32") -> Runtime:
    """A process on one thread of the CPU."""
    params = RuntimeParams.model_validate(
        {
            "device": "cpu", "dtype": dtype, "threads": 1, "portable": False, "checkpoint_s": 60.0,
            "checkpoint_steps": 0,
        }
    )  # fmt: skip
    return Runtime.start(params, 0)
