"""`make bench-gpu` as a dry run on a CPU, and its arithmetic."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.limits import PEAKS, peak_of, work_of
from benchmarks.gpu.pieces import BATCHES, GPT2, Plan, pieces
from benchmarks.gpu.table import render
from benchmarks.gpu.twin import differences
from benchmarks.workload import Shape
from tests.benchmarks.commands import command

PLAN = Plan("cuda", "bfloat16", 8, 4, 540.0, 64, "lora", dry=False)


def test_names_that_torch_reports_find_their_data_sheet() -> None:
    found = {name: peak_of(name) for name in ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB")}
    assert [peak.memory_gb_s for peak in found.values() if peak] == [4800.0, 3350.0, 2039.0]
    pcie, small = peak_of("NVIDIA H100 PCIe"), peak_of("NVIDIA A100-SXM4-40GB")
    assert pcie is not None
    assert small is not None
    assert (pcie.bfloat16_tflops, small.memory_gb_s) == (756.0, 1555.0)
    assert peak_of("Some other chip") is None
    assert all(peak.source.startswith("NVIDIA") for peak in PEAKS)


def test_the_least_work_of_a_step_by_hand() -> None:
    """1 layer, width 2, vocabulary 3, 1 episode of 2 + 2 tokens, 2 epochs: 48 body weights, 6 of the head."""
    shape = Shape(1, 2, 1, 3, 1, 2, 2, 2, 2, 1)
    work = work_of(shape, width=2, rescored=False)
    once = 2 * (48 * 4 + 6 * 2) + 2 * 2 * 4**2
    assert (work.rollout_flops, work.scoring_flops, work.update_flops) == (once, once, 4 * once)
    assert work.rollout_bytes == 2 * (54 * 2 + 2 * 1 * 2 * (3 + 4))
    assert work_of(shape, width=2, rescored=True).rollout_flops == 2 * once


def test_the_pieces_cover_the_rows_that_are_asked_for() -> None:
    names = list(pieces(PLAN))
    assert names[0] == "limits"
    assert {f"{who}-{n}" for who in ("peer", "ours") for n in (64, 128, 256, 512)} < set(names)
    assert BATCHES == (64, 128, 256, 512)
    assert (GPT2.prompt, GPT2.response, GPT2.layers, GPT2.hidden) == (128, 128, 12, 768)
    assert PLAN.shape(512).microbatch == 64


def test_differences_between_runs() -> None:
    one = {
        "weights/a": torch.tensor([1.0, -2.0]),
        "response_ids": torch.tensor([[5, 6, 7], [1, 2, 3]]),
        "logprobs": torch.tensor([[-1.0, -1.0, -1.0], [-2.0, -2.0, -2.0]]),
    }
    assert differences(one, {name: value.clone() for name, value in one.items()})["bitwise"] is True
    two = {
        "weights/a": torch.tensor([1.0, -1.5]),
        "response_ids": torch.tensor(
            [[5, 6, 7], [1, 9, 3]]
        ),  # everything after a token that differs is of another text
        "logprobs": torch.tensor([[-1.0, -1.25, -1.0], [-2.0, -9.0, -9.0]]),
    }
    found = differences(one, two)
    assert found["bitwise"] is False
    assert found["weights_largest_difference"] == pytest.approx(0.5)
    assert found["weights_relative"] == pytest.approx(0.25)
    assert found["logprobs_largest_difference"] == pytest.approx(0.25)
    assert found["tokens_that_differ"] == pytest.approx(2 / 6)


def test_the_table_by_hand() -> None:
    """64 episodes of 128 tokens in 2 s are 4,096 tokens a second; the peer's 40 s over 4 s is a ratio of 10."""
    seconds = {"rollout": 2.0, "scoring": 0.5, "update": 1.5, "total": 4.0}
    found = {
        "plan": {"dtype": "bfloat16"},
        "versions": {"torch": "2.11.0"},
        "shapes": {"64": vars(replace(GPT2, batch=64))},
        "pieces": {
            "limits": {
                "device": "NVIDIA H200", "bfloat16_tflops": 800.0, "float32_tflops": 50.0, "memory_gb_s": 4300.0,
                "launch_us": 2.0,
            },
            "ours-64": {"median": seconds, "peak_gpu_gb": 10.0},
            "peer-64": {"median": {name: 10 * value for name, value in seconds.items()}, "peak_gpu_gb": 40.0},
            "same-seed-float32": {"failed": "it broke"},
        },
    }  # fmt: skip
    text = render(found)
    assert "| 4,096 |" in text
    assert "**10.0** (10)" in text
    assert f"{4 * 64 * 256 / 1.5:,.0f}" in text
    assert "same-seed-float32: it broke" in text


@pytest.mark.slow
@pytest.mark.thorough
def test_dry_run_and_going_on_where_it_stopped(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    command("benchmarks.gpu", "run", "--dry-run", "--piece", "ours", *out)
    first = json.loads((tmp_path / "gpu.json").read_text())["pieces"]
    assert list(first) == ["ours-4"]
    command("benchmarks.gpu", "run", "--dry-run", *out)
    found = json.loads((tmp_path / "gpu.json").read_text())["pieces"]
    assert found["ours-4"] == first["ours-4"]  # not measured again
    assert {"limits", "peer-4", "same-seed-bfloat16", "same-seed-float32"} < set(found)
    assert not [name for name, own in found.items() if "failed" in own]
    assert found["same-seed-float32"]["bitwise"] is True
    assert "median" in found["peer-4"] or "absent" in found["peer-4"]
    assert "| 4 | ours |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "words", [pytest.param(("benchmarks.gpu", "run"), marks=pytest.mark.thorough), ("benchmarks.repro_gpu",)]
)
def test_without_a_gpu_it_says_so(words: tuple[str, ...], tmp_path: Path) -> None:
    done = command(*words, "--out", str(tmp_path), check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: torch sees no NVIDIA GPU")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.thorough
def test_a_piece_that_fails_is_said_and_tried_again(tmp_path: Path) -> None:
    words = ["run", "--dry-run", "--piece", "ours", "--out", str(tmp_path)]
    done = command("benchmarks.gpu", *words, "--limit-s", "0.01", check=False)
    assert done.returncode == 1
    assert "failed" in json.loads((tmp_path / "gpu.json").read_text())["pieces"]["ours-4"]
    assert "ours-4: to do" in command("benchmarks.gpu", *words, "--list").stdout
