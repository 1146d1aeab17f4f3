"""Model cards: the hub reads them, they say what they are told and nothing else."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from rlhf.core.card import CARD, model_card, write_card

METRICS = {
    "eval_gold_winrate": 0.641667, "eval_gold_winrate_low": 0.6025, "eval_gold_winrate_high": 0.679,
    "ppo_iterations": 30, "ppo_stop_detail": "a | b\nc", "ppo_validation_reward_best": None,
}  # fmt: skip
PARAMS = {"ppo": {"lr": 0.001, "lora": {"rank": 8}}, "seed": 0}


def test_the_hub_reads_its_front_matter() -> None:
    text = model_card(
        folder="artifacts/ppo", stage="ppo", params=PARAMS, metrics=METRICS, base="openai-community/gpt2",
        dataset="Anthropic/hh-rlhf", licence="mit",
    )  # fmt: skip
    data = ModelCard(text).data
    assert (data.library_name, data.base_model, data.license) == ("peft", "openai-community/gpt2", "mit")
    assert data.tags == ["ppo", "rlhf", "lora"]
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("eval_gold_winrate", 0.641667)


def test_the_tables_hold_what_was_told() -> None:
    text = model_card(folder="artifacts/ppo", stage="ppo", params=PARAMS, metrics=METRICS)
    assert "| `eval_gold_winrate` | 0.6417 (0.6025 to 0.679) |" in text
    assert "eval_gold_winrate_low" not in text
    assert r"| `ppo_stop_detail` | a \| b c |" in text  # one cell, whatever is in it
    assert "ppo_validation_reward_best" not in text
    assert "| `ppo.lora.rank` | 8 |" in text
    assert 'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("artifacts/base"), "artifacts/ppo")' in text


def test_what_is_not_known_is_left_out() -> None:
    data = ModelCard(model_card(folder="f", stage="sft", params={}, metrics={})).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags"}


@pytest.mark.parametrize(
    ("stage", "library", "made_by"),
    [
        ("base", "transformers", "base"), ("reward", None, "reward"), ("referee", None, "reward"),
        ("dpo", "peft", "offline_dpo"),
    ],
)  # fmt: skip
def test_other_kinds(stage: str, library: str | None, made_by: str) -> None:
    text = model_card(folder="x", stage=stage, params={}, metrics={})
    assert ModelCard(text).data.library_name == library
    assert ("load_reward" in text) == (stage in ("reward", "referee"))
    assert ("peft" in text) == (stage == "dpo")
    assert f"`provenance/{made_by}.json`" in text


def test_a_second_reward_model_is_told_of_itself_alone(tmp_path: Path) -> None:
    metrics = {"reward_accuracy": 0.7, "reward_referee_accuracy": 0.6}
    write_card(tmp_path, stage="referee", params={}, metrics=metrics)
    text = (tmp_path / CARD).read_text()
    assert "| `reward_referee_accuracy` | 0.6 |" in text
    assert "`reward_accuracy`" not in text


def test_equal_models_have_equal_cards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_card(tmp_path / name, stage="sft", params=PARAMS, metrics=METRICS)
    texts = [(tmp_path / name / CARD).read_text().replace(str(tmp_path / name), "here") for name in ("a", "b")]
    assert texts[0] == texts[1]
