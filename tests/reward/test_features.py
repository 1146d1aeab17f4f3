import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.core.artifacts import load_tensors, save_tensors
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import Stopped, UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER
from rlhf.reward import features as subject
from rlhf.reward.features import pair_features, pair_rows
from rlhf.reward.pairs import TextPair
from tests.reward.conftest import keyword_pairs


def features(
    backbone: Backbone, pairs: list[TextPair], pooler: RewardModel, at: Checkpoints, tokens: int
) -> torch.Tensor:
    return pair_features(backbone, pairs, model=pooler, adapter=ADAPTER, batch_tokens=tokens, checkpoints=at)


def by_hand(backbone: Backbone, pair: TextPair, text: str) -> torch.Tensor:
    """Mean hidden state of one unpadded sequence, straight from transformers."""
    tokenizer = backbone.tokenizer
    ids = [*tokenizer(pair.prompt)["input_ids"], *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    backbone.model.set_adapter(ADAPTER)
    with torch.no_grad():
        output = backbone.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    return output.hidden_states[-1][0].mean(0)


def test_features_are_pooled_hidden_states(backbone: Backbone, pooler: RewardModel, checkpoints: Checkpoints) -> None:
    pairs = keyword_pairs(6, seed=0)
    found = features(backbone, pairs, pooler, checkpoints, tokens=256)
    assert found.shape == (6, 2, 32)
    for row, pair in zip(found, pairs, strict=True):
        torch.testing.assert_close(row[0], by_hand(backbone, pair, pair.chosen), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(row[1], by_hand(backbone, pair, pair.rejected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [1, 100, 100_000])
def test_neither_batch_size_nor_order_matters(
    backbone: Backbone, pooler: RewardModel, tmp_path: Path, tokens: int
) -> None:
    pairs = keyword_pairs(10, seed=1)
    there = [Checkpoints(tmp_path / str(k), every_s=1e9, every_steps=0) for k in range(2)]
    expected = features(backbone, pairs, pooler, there[0], tokens=300)
    found = features(backbone, pairs[::-1], pooler, there[1], tokens=tokens)
    torch.testing.assert_close(found.flip(0), expected, atol=1e-5, rtol=1e-5)


def test_each_sequence_goes_through_once(
    backbone: Backbone, pooler: RewardModel, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = subject.pooled

    def counting(backbone: Backbone, rows: list[object], **rest: object) -> torch.Tensor:
        seen.append(len(rows))
        return original(backbone, rows, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(subject, "pooled", counting)
    features(backbone, keyword_pairs(9, seed=2), pooler, checkpoints, tokens=200)
    assert sum(seen) == 18


def test_a_stop_saves_and_a_resumed_run_has_the_same_bytes(
    backbone: Backbone, pooler: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = keyword_pairs(12, seed=3)
    whole = features(backbone, pairs, pooler, Checkpoints(tmp_path / "a", every_s=1e9, every_steps=0), tokens=60)
    original, calls = subject.pooled, []

    def stopping(*args: object, **rest: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(subject, "pooled", stopping)
    with pytest.raises(Stopped):
        features(backbone, pairs, pooler, Checkpoints(tmp_path / "b", every_s=1e9, every_steps=2), tokens=60)
    resumed = features(backbone, pairs, pooler, Checkpoints(tmp_path / "b", every_s=1e9, every_steps=2), tokens=60)
    assert torch.equal(resumed, whole)
    total = len(subject.length_batches([len(p) + len(r) for p, r in pair_rows(backbone, pairs)], 60))
    assert len(calls) == total, "the five finished batches are not computed again"


def test_a_broken_piece_is_computed_again(
    backbone: Backbone, pooler: RewardModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = keyword_pairs(8, seed=4)
    there = tmp_path / "c"
    whole = features(backbone, pairs, pooler, Checkpoints(there, every_s=1e9, every_steps=1), tokens=60)
    piece = sorted((there / "features").iterdir())[1]
    piece.write_bytes(piece.read_bytes()[:-3])
    again = features(backbone, pairs, pooler, Checkpoints(there, every_s=1e9, every_steps=1), tokens=60)
    assert torch.equal(again, whole)
    assert f"{piece}: broken checkpoint" in capsys.readouterr().err


def test_too_long_a_pair_is_named_before_any_work(
    backbone: Backbone, pooler: RewardModel, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "pooled", None)
    pairs = [*keyword_pairs(2, seed=0), TextPair("\n\nHuman: long\n\nAssistant:", " word" * 200, " b", None, 1)]
    with pytest.raises(UserError, match=r"context holds 128.*data\.max_tokens.*long"):
        features(backbone, pairs, pooler, checkpoints, tokens=60)


FORK = multiprocessing.get_context("fork")  # of this process, which has made its imports


def slowly(base: Path, sft: Path, root: Path, delay: float) -> None:
    """All features in a process of its own, with a pause before each batch."""
    torch.set_num_threads(1)
    original = subject.pooled

    def slow(*args: Any, **rest: Any) -> Any:
        time.sleep(delay)
        return original(*args, **rest)

    subject.pooled = slow
    backbone = Backbone.load(base, {ADAPTER: sft}, dtype=torch.float32, device="cpu")
    model = RewardModel(backbone.hidden_size, pooling="mean", pool_over="sequence", backbone_adapter=ADAPTER)
    at = Checkpoints(root / "points", every_s=1e9, every_steps=1)
    found = features(backbone, keyword_pairs(12, seed=6), model, at, tokens=60)
    save_tensors(root / "features.safetensors", {"features": found})


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(tiny_model_dir: Path, sft_dir: Path, tmp_path: Path) -> None:
    def start(root: Path, delay: float) -> ForkProcess:
        process = FORK.Process(target=slowly, args=(tiny_model_dir, sft_dir, root, delay))
        process.start()
        return process

    def whole(root: Path) -> None:
        process = start(root, 0.0)
        process.join()
        assert process.exitcode == 0

    whole(tmp_path / "whole")
    killed = start(tmp_path / "killed", 0.2)
    while not list((tmp_path / "killed" / "points").glob("step-*2")):
        assert killed.is_alive()
        time.sleep(0.01)
    time.sleep(0.15)
    killed.kill()
    killed.join()
    assert not (tmp_path / "killed" / "features.safetensors").exists()
    whole(tmp_path / "killed")
    bytes_of = [(tmp_path / name / "features.safetensors").read_bytes() for name in ("whole", "killed")]
    assert bytes_of[0] == bytes_of[1]
    assert load_tensors(tmp_path / "killed" / "features.safetensors")["features"].shape == (12, 2, 32)
