"""`make bench-reward` at a size of seconds, and its arithmetic."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.reward_training import FULL, line, summary
from benchmarks.reward_ways import make_pairs
from benchmarks.workload import tokenizer
from rlhf.models.text.tokens import encode_prompt, encode_response
from tests.benchmarks.commands import command


def test_the_line_through_sizes() -> None:
    start, slope = line([4, 8, 16], [3.0, 5.0, 9.0])  # 1 + n / 2
    assert (start, slope) == pytest.approx((1.0, 0.5))
    assert line([8], [4.0]) == (0.0, 0.5)


def test_the_full_size_is_read_off_the_line_unless_measured() -> None:
    runs = [{"config": {"pairs": n}, "seconds": 1 + n / 2, "peak_rss_gb": 1.0} for n in (4, 8, 16)]
    found = summary(runs, "seconds")
    assert found["full"] == pytest.approx(257.0)
    assert found["full_is"] == "read off the line"
    assert found["largest_miss"] == pytest.approx(0.0)
    measured = {"config": {"pairs": FULL}, "seconds": 200.0, "peak_rss_gb": 2.0}
    assert summary([*runs, measured], "seconds")["full"] == 200.0


def test_pairs_have_the_length_asked_for() -> None:
    words = tokenizer(64)
    for pair in make_pairs(3, 16, 64):
        for text in (pair.chosen, pair.rejected):
            assert len(encode_prompt(words, pair.prompt)) + len(encode_response(words, text)) == 16
    assert len({pair.chosen for pair in make_pairs(3, 16, 64)}) == 3


@pytest.mark.slow
@pytest.mark.thorough
def test_the_command_runs_every_way_and_writes_the_table(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    sizes = ["--shape", "micro", "--tokens", "16", "--epochs", "1", "--batch", "4", "--threads", "1"]
    command("benchmarks.reward_training", *sizes, "--pairs", "4", "8", "--out", str(tmp_path))
    found = json.loads((tmp_path / "reward.json").read_text())
    assert set(found["summary"]) == {"ours", "naive", "trl"}
    assert all(set(way["seconds"]) == {"4", "8"} for way in found["summary"].values())
    assert all(run["seconds"] > 0 for runs in found["runs"].values() for run in runs)
    assert (tmp_path / "reward.md").read_text().count("\n|") == 5


def test_once_does_less_work_than_every_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokens through the backbone: ours once, the naive loop once an epoch."""
    import argparse

    from transformers import GPT2Model

    from benchmarks import reward_ways

    given = argparse.Namespace(pairs=6, tokens=16, epochs=3, batch=2, batch_tokens=64, engine="plain", device="cpu")
    seen: list[int] = []
    plain = GPT2Model.forward

    def counted(self: GPT2Model, input_ids: torch.Tensor, **named: object) -> object:
        seen.append(input_ids.numel())
        return plain(self, input_ids, **named)

    monkeypatch.setattr(GPT2Model, "forward", counted)
    for way, passes in ((reward_ways.ours, 1), (reward_ways.naive, 3)):
        seen.clear()
        way(reward_ways.SHAPES["micro"], tmp_path / way.__name__, given)()
        assert sum(seen) == passes * 6 * 2 * 16
