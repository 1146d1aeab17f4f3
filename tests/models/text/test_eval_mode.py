"""Training an adapter drops nothing of the frozen model, by whatever name its dropout goes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from rlhf.models.text.load import load_model
from tests.conformance.kinds import make

DROPS: dict[str, dict[str, float]] = {
    "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "bloom": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "falcon": {"hidden_dropout": 0.5, "attention_dropout": 0.5},
    "xglm": {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5, "layerdrop": 0.5},
    "biogpt": {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5, "layerdrop": 0.5},
    "opt": {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5},
}
IDS = torch.arange(3, 30).unsqueeze(0)


@pytest.mark.parametrize("kind", DROPS)
def test_train_mode_computes_what_eval_mode_does(kind: str, tmp_path: Path) -> None:
    folder = make(kind, tmp_path, **DROPS[kind])
    plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = plain(IDS).logits
        assert not torch.allclose(plain.train()(IDS).logits, expected, atol=1e-2)  # it has dropout
        model = load_model(folder, dtype=torch.float32, device="cpu")
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
        for found in (model.train()(IDS).logits, adapted.train()(input_ids=IDS).logits):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # by products of another library


def test_an_adapters_own_dropout_is_on_in_train_mode_alone(tiny_model_dir: Path) -> None:
    model = load_model(tiny_model_dir, dtype=torch.float32, device="cpu")
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], lora_dropout=0.5, init_lora_weights=False
    )
    adapted: Any = get_peft_model(model, config)
    with torch.no_grad():
        calm = [adapted.eval()(input_ids=IDS).logits for _ in range(2)]
        restless = [adapted.train()(input_ids=IDS).logits for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(*restless)
