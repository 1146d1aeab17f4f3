"""The second reward model: other prompts, another start, the plain SFT backbone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.artifacts import load_tensors, read_json
from rlhf.core.errors import UserError
from rlhf.models.reward.referee import load_referee, save_referee
from rlhf.models.reward.scoring import ADAPTER, Scorer, save_reward
from rlhf.reward.pairs import TextPair
from rlhf.reward.referee import divide, referee_metrics
from rlhf.reward.train import TrainedReward
from tests.reward.conftest import keyword_pairs, write_pairs, write_split
from tests.reward.test_train import HEAD, LORA, SEVERAL, train

SHARE = {"referee_share": 0.4}


def numbered(counts: list[int]) -> list[TextPair]:
    """Prompt number k has counts[k] pairs."""
    return [TextPair(f"p{k}", f" a{j}", " b", None, 1) for k, count in enumerate(counts) for j in range(count)]


@given(st.lists(st.integers(1, 4), min_size=4, max_size=30), st.floats(0.2, 0.5), st.integers(0, 99))
def test_no_prompt_is_on_both_sides_and_no_pair_is_lost(counts: list[int], share: float, seed: int) -> None:
    pairs = numbered(counts)
    own, held = divide(pairs, share, seed)
    assert not {pair.prompt for pair in own} & {pair.prompt for pair in held}
    assert sorted([*own, *held], key=pairs.index) == pairs
    assert abs(len({pair.prompt for pair in held}) - share * len(counts)) <= 0.5
    assert divide(pairs, share, seed) == (own, held)


def test_the_seed_draws_the_prompts_and_the_order_stays() -> None:
    pairs = numbered([2] * 40)
    draws = {tuple(pair.prompt for pair in divide(pairs, 0.25, seed)[1]) for seed in range(5)}
    assert len(draws) == 5
    for own, held in (divide(pairs, 0.25, seed) for seed in range(5)):
        assert own == [pair for pair in pairs if pair in own]
        assert len(held) == 20
    assert divide(pairs, 0.0, 0) == (pairs, [])


def test_a_share_without_prompts_is_an_error() -> None:
    with pytest.raises(UserError, match=r"referee_share: found 0\.1, which is 0 of 3"):
        divide(numbered([5, 5, 5]), 0.1, 0)
    with pytest.raises(UserError, match="0 of 1 training prompts"):
        divide(numbered([5]), 0.5, 0)


def test_metrics_by_hand() -> None:
    pairs = numbered([2])
    found = referee_metrics(pairs, [1.0, -1.0, 2.0, 0.0], [3.0, -2.0, -1.0, 1.0])
    assert found["reward_referee_pairs"] == 2
    assert found["reward_referee_accuracy"] == 0.625  # right, wrong, right, tie
    assert found["reward_referee_agreement"] == 0.625  # same, same, other, half
    none = referee_metrics([], [], [1.0])
    assert none.keys() == found.keys()
    assert {name for name, value in none.items() if value is not None} == {"reward_referee_pairs"}


@pytest.fixture(scope="module")
def once(tiny_model_dir: Path, sft_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainedReward]:
    """A training with a referee, made once for each way: the first of two that must be equal, and one to look at."""
    made: list[tuple[dict[str, Any], TrainedReward]] = []

    def get(how: dict[str, Any]) -> TrainedReward:
        if not [one for one in made if one[0] == how]:
            folder = tmp_path_factory.mktemp("once")
            write_pairs(folder)
            made.append((how, train(folder, tiny_model_dir, sft_dir, folder / "out", **how, **SHARE)))
        return next(trained for known, trained in made if known == how)

    return get


@pytest.mark.parametrize("how", [HEAD, *(pytest.param(how, marks=pytest.mark.thorough) for how in (LORA, SEVERAL))])
def test_the_saved_model_gives_what_was_measured(
    tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, how: dict[str, Any], once: Callable[..., TrainedReward]
) -> None:
    trained = once(how)
    assert trained.referee is not None
    save_referee(trained.referee, tmp_path / "second", base=tiny_model_dir, sft=sft_dir)
    assert not (tmp_path / "second" / "adapter").exists()
    scorer = Scorer.load(tiny_model_dir, sft_dir, tmp_path / "second")
    assert scorer.adapter == ADAPTER
    test = keyword_pairs(80, 3)
    prompts = [pair.prompt for pair in test]
    chosen = scorer.score_texts(prompts, [pair.chosen for pair in test])
    rejected = scorer.score_texts(prompts, [pair.rejected for pair in test])
    right = sum(a > b for a, b in zip(chosen, rejected, strict=True)) / 80
    assert trained.metrics["reward_referee_accuracy"] == pytest.approx(right)
    assert right > 0.8
    assert trained.metrics["reward_referee_pairs"] + trained.metrics["reward_train_pairs"] == 160  # type: ignore[operator]
    assert 0.7 < float(trained.metrics["reward_referee_agreement"]) <= 1  # type: ignore[arg-type]


def test_it_knows_only_its_own_pairs(pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path) -> None:
    """Labels turned round in one side's pairs turn that model round, and leave the other as it was."""
    train_pairs = keyword_pairs(160, 1)
    spoilt = {pair.prompt for pair in divide(train_pairs, 0.4, 0)[1]}
    before = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "a", **SHARE)
    turned = [replace(p, chosen=p.rejected, rejected=p.chosen) if p.prompt in spoilt else p for p in train_pairs]
    write_split(pairs_dir / "train.jsonl", turned)
    after = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "b", **SHARE)
    assert torch.allclose(before.model.head.weight, after.model.head.weight, atol=1e-4)
    assert after.referee is not None
    assert before.referee is not None
    # The epoch is chosen on validation pairs that the turned labels contradict: it keeps the start, or worse.
    assert float(after.metrics["reward_referee_accuracy"]) < float(before.metrics["reward_referee_accuracy"])  # type: ignore[arg-type]


def test_without_a_share_there_is_none_and_the_folder_says_so(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path
) -> None:
    trained = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out")
    assert trained.referee is None
    assert trained.metrics["reward_referee_accuracy"] is None
    save_referee(None, tmp_path / "second", base=tiny_model_dir, sft=sft_dir)
    assert [path.suffix for path in (tmp_path / "second").iterdir()] == [".json"]
    assert read_json(tmp_path / "second" / "none.json")["referee"] is False
    assert load_referee(tmp_path / "second", base=tiny_model_dir, sft=sft_dir) is None
    with pytest.raises(UserError, match=r"no reward\.json"):
        load_referee(tmp_path / "nowhere", base=tiny_model_dir, sft=sft_dir)


@pytest.mark.parametrize("how", [HEAD, pytest.param(LORA, marks=pytest.mark.thorough)])
def test_equal_runs_give_equal_bytes(
    tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, how: dict[str, Any], once: Callable[..., TrainedReward]
) -> None:
    again = train(write_pairs(tmp_path), tiny_model_dir, sft_dir, tmp_path / "out", **how, **SHARE)
    for name, trained in (("a", once(how)), ("b", again)):
        save_referee(trained.referee, tmp_path / name / "second", base=tiny_model_dir, sft=sft_dir)
        save_reward(trained.model, tmp_path / name / "first", base=tiny_model_dir, sft=sft_dir)
    for file in ("head.safetensors", "reward.json", "backbone.json"):
        assert (tmp_path / "a" / "second" / file).read_bytes() == (tmp_path / "b" / "second" / file).read_bytes()
    weights = [load_tensors(tmp_path / "a" / which / "head.safetensors")["weight"] for which in ("first", "second")]
    assert weights[1].shape[1] == weights[0].shape[1] + 3  # it also reads log-probabilities
    assert not torch.allclose(weights[0], weights[1][:, : weights[0].shape[1]])
