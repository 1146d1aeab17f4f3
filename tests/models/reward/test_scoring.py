"""Scores of text against the backbone called by hand, and reward models refused on other weights."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward import scoring
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, Scorer, length_batches, load_reward, prompts_that_fit, save_reward
from tests.model_fixtures import make_adapter, rounded_by_place

PROMPT = "\n\nHuman: Why is the sky blue?\n\nAssistant:"


@pytest.fixture(scope="module")
def sft(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_model_dir, tmp_path_factory.mktemp("sft"), seed=5)


def head(size: int, seed: int, **changes: str) -> RewardModel:
    model = RewardModel(
        size, **({"pooling": "mean", "pool_over": "sequence", "backbone_adapter": "artifacts/sft"} | changes)
    )  # type: ignore[arg-type]
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(1, size, generator=torch.Generator().manual_seed(seed)))
    model.mean, model.std = 0.5, 2.0
    return model.requires_grad_(False)


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_index_once_and_stay_in_budget(lengths: list[int], budget: int) -> None:
    batches = length_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in batches)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("pool_over", ["sequence", "response"])
def test_scores_do_not_depend_on_company(tiny_model_dir: Path, sft: Path, pooling: str, pool_over: str) -> None:
    backbone = Backbone.load(tiny_model_dir, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    scorer = Scorer(backbone, head(32, 0, pooling=pooling, pool_over=pool_over), ADAPTER)
    texts = [" Because air scatters blue light.", " No.", "", " light" * 12]
    alone = [scorer.score_texts([PROMPT], [text])[0] for text in texts]
    for tokens in (1, 64, 100_000):
        together = scorer.score_texts([PROMPT] * 4, texts, batch_tokens=tokens)
        assert together == pytest.approx(alone, abs=1e-4)


def test_equal_rows_tie_exactly_whatever_batch_they_sit_in(
    tiny_model_dir: Path, sft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load(tiny_model_dir, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    rows_through = rounded_by_place(monkeypatch, scoring)
    texts = [" No.", " Because air scatters blue light.", " No.", " light" * 12, " No."]
    scorer = Scorer(backbone, head(32, 0), ADAPTER, {})
    first = scorer.score_texts([PROMPT] * 5, texts, batch_tokens=64)
    again = scorer.score_texts([PROMPT] * 2, [" light" * 12, " No."], batch_tokens=100_000)
    assert first[0] == first[2] == first[4] == again[1]
    assert again[0] == first[3]
    assert sum(rows_through) == 3

    trained = Scorer(backbone, head(32, 0), ADAPTER)  # whose weights may change: each call scores anew
    before = trained.score_texts([PROMPT], [" No."])
    with torch.no_grad():
        trained.reward.head.weight.neg_()
    assert trained.score_texts([PROMPT], [" No."]) != before


@pytest.mark.parametrize(("pooling", "pool_over"), [("mean", "sequence"), ("mean", "response"), ("last", "response")])
def test_scores_are_the_head_on_pooled_states(tiny_model_dir: Path, sft: Path, pooling: str, pool_over: str) -> None:
    backbone = Backbone.load(tiny_model_dir, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    model, tokenizer = head(32, 0, pooling=pooling, pool_over=pool_over), backbone.tokenizer
    prompt, response = tokenizer(PROMPT)["input_ids"], [*tokenizer(" blue light")["input_ids"], tokenizer.eos_token_id]
    backbone.model.set_adapter(ADAPTER)
    with torch.no_grad():
        states = backbone.model(input_ids=torch.tensor([prompt + response]), output_hidden_states=True).hidden_states
    pooled = states[-1][0][-1:] if pooling == "last" else states[-1][0][len(prompt) * (pool_over == "response") :]
    expected = (float(pooled.mean(0) @ model.head.weight[0]) - 0.5) / 2.0
    assert Scorer(backbone, model, ADAPTER).score_texts([PROMPT], [" blue light"]) == pytest.approx(
        [expected], abs=1e-4
    )


def test_samples_are_scored_token_by_token(tiny_model_dir: Path, sft: Path) -> None:
    backbone = Backbone.load(tiny_model_dir, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    scorer, tokenizer = Scorer(backbone, head(32, 0), ADAPTER), backbone.tokenizer
    cut = tokenizer(" blue light")["input_ids"]
    samples = [
        Sample(PROMPT, " blue light", False, tuple(cut)),
        Sample(PROMPT, " blue light", True, (*cut, tokenizer.eos_token_id)),
    ]
    found = scorer.score_samples(samples, batch_tokens=512)
    assert found[0] == pytest.approx(scorer.score_texts([PROMPT], [" blue light"], ended=False)[0], abs=1e-4)
    assert found[1] == pytest.approx(scorer.score_texts([PROMPT], [" blue light"])[0], abs=1e-4)
    assert found[0] != pytest.approx(found[1], abs=1e-3)


def test_save_and_load_round_trip(tiny_model_dir: Path, sft: Path, tmp_path: Path) -> None:
    save_reward(head(32, 1), tmp_path, base=tiny_model_dir, sft=sft)
    model = load_reward(tmp_path, base=tiny_model_dir, sft=sft)
    features = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        model.score_features(features, torch.ones(len(features))),
        head(32, 1).score_features(features, torch.ones(len(features))),
    )


def test_a_reward_model_of_other_weights_is_refused(
    tiny_model_dir: Path, sft: Path, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    save_reward(head(32, 1), tmp_path / "reward", base=tiny_model_dir, sft=sft)
    with pytest.raises(UserError, match="another base model"):
        load_reward(tmp_path / "reward", base=tiny_llama_dir, sft=sft)
    other = make_adapter(tiny_model_dir, tmp_path / "other", seed=6)
    with pytest.raises(UserError, match="another sft model"):
        load_reward(tmp_path / "reward", base=tiny_model_dir, sft=other)


def test_prompts_that_fit(tiny_model_dir: Path, sft: Path) -> None:
    backbone = Backbone.load(tiny_model_dir, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    long = "\n\nHuman: " + "sky " * 100 + "\n\nAssistant:"
    assert prompts_that_fit(backbone, [long, PROMPT], 20) == [PROMPT]
    with pytest.raises(UserError, match="none of 1 prompts leaves room for 20"):
        prompts_that_fit(backbone, [long], 20)
