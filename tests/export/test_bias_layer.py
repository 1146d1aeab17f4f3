"""A logit with a constant, from parts that have no bias; its oracle is the shallow model's own last state."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
)

from rlhf.export.bias_layer import with_constant
from rlhf.export.card import classifier_card
from rlhf.export.reward import Line, classifier

IDS = torch.randint(1, 50, (4, 9), generator=torch.Generator().manual_seed(1))
SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "num_labels": 1,
}  # fmt: skip


def line(constant: float) -> Line:
    return Line(torch.randn(32, generator=torch.Generator().manual_seed(2)).double(), constant)


@torch.no_grad()
@pytest.mark.parametrize("mlp_bias", [False, True])
@pytest.mark.parametrize(("constant", "spread"), [(-3.7, 1.0), (12.0, 1.0), (0.25, 1000.0)])
def test_the_constant_is_exact(tmp_path: Path, constant: float, spread: float, mlp_bias: bool) -> None:
    """Also where single states are as large as those that big models have (Sun et al. 2024, arXiv 2402.17762)."""
    torch.manual_seed(0)
    shallow = LlamaForSequenceClassification(LlamaConfig(**SIZES, mlp_bias=mlp_bias)).eval()
    shallow.model.embed_tokens.weight[:, 0] += spread
    shallow.model.norm.weight.uniform_(0.5, 2.0)
    ours = line(constant)
    expected = shallow.model(IDS).last_hidden_state[:, -1].double() @ ours.weight + constant
    with_constant(shallow, ours.weight.float(), constant).save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(IDS).logits[:, 0].double(), expected, atol=1e-4, rtol=0)
    half = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    torch.testing.assert_close(half(IDS).logits[:, 0].double(), expected, atol=0.3, rtol=0.05)


@torch.no_grad()
def test_an_architecture_without_any_bias_leaves_an_offset(tiny_llama_dir: Path) -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES)).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    tokenizer.pad_token = tokenizer.decode([0])
    expected = model.model(IDS).last_hidden_state[:, -1].double() @ line(1.5).weight + 1.5
    made, offset = classifier(model, line(1.5), tokenizer)
    assert offset == made.config.reward_offset == 1.5
    torch.testing.assert_close(made(IDS).logits[:, 0].double() + offset, expected, atol=1e-4, rtol=0)
    assert "add `reward_offset`" in classifier_card(tiny_llama_dir, offset, deeper=False)


def test_the_small_llama_is_one_of_those(tiny_llama_dir: Path) -> None:
    assert AutoModelForCausalLM.from_pretrained(tiny_llama_dir).config.model_type == "llama"
