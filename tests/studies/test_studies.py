"""Studies of over-optimisation: what their tables are made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import write_jsonl, write_text
from studies import early_stopping, ensembles, overoptimised


def test_gold_at_equal_kl_by_hand() -> None:
    points = [[0.0, 1.0, 0.0], [0.9, 2.0, 0.0], [1.1, 4.0, 0.0], [1.3, 8.0, 0.0], [2.0, 16.0, 0.0]]
    assert ensembles.at_equal_kl(points, (0.0, 1.0, 1.5, 3.0)) == [1.0, 3.0, 8.0, None]


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = overoptimised.folder_of(tmp_path, 3, "worst")
    write_text(folder / "plots/overoptimisation.csv", "iteration,sqrt_kl,proxy,gold,referee\n0,0.5,1.0,2.0,\n")
    assert overoptimised.curve(folder) == [{"iteration": 0.0, "sqrt_kl": 0.5, "proxy": 1.0, "gold": 2.0}]
    write_jsonl(folder / "artifacts/evaluate/samples.jsonl", [{"prompt": "p", "ppo_gold": 1.5, "sft_gold": 0.5}])
    assert overoptimised.golds(folder, "sft") == {"p": 0.5}


def run_of(gold: float, **more: Any) -> dict[str, Any]:
    names = ("eval_gold_sft", "eval_gold_peak", "eval_gold_peak_sqrt_kl", "eval_gold_ppo", "eval_gold_ppo_low",
             "eval_gold_ppo_high", "eval_reward_ppo", "eval_kl", "reward_accuracy")  # fmt: skip
    return dict.fromkeys(names, gold) | {
        "eval_gold_peak_iteration": 20, "ppo_iterations": 60, "ppo_saved_iteration": 60, "ppo_stop_reason": "completed",
        "reward_member_agreement": None, **more,
    }  # fmt: skip


@pytest.fixture
def studied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the study of early stopping on made-up runs; gives the runs asked for, the result of seed 4 and its row."""

    def study(runs: dict[str, dict[str, Any]]) -> tuple[list[tuple[str, Any]], dict[str, Any], str]:
        asked = []

        def given(work: Path, seed: int, name: str, changes: dict[str, Any]) -> dict[str, Any]:
            asked.append((name, changes.get("ppo.validation_by")))
            folder = work / f"seed{seed}-{name}"
            rows = [{"prompt": p, "ppo_gold": runs[name]["eval_gold_ppo"] + k} for k, p in enumerate("abcd")]
            write_jsonl(folder / "artifacts/evaluate/samples.jsonl", rows if name == "single" else rows[::-1])
            write_text(folder / "plots/ppo.csv", "iteration,validation_reward\n0,0.1\n1,\n2,1.6\n")
            return runs[name]

        monkeypatch.setattr(early_stopping, "over_optimised", given)
        monkeypatch.setattr("sys.argv", ["x", "--seeds", "4", "--work", str(tmp_path), "--out", str(tmp_path / "out")])
        early_stopping.main()
        found = json.loads((tmp_path / "out/early_stopping.json").read_text())["referee-4"]
        return asked, found, (tmp_path / "out/early_stopping.md").read_text().splitlines()[2]

    return study


def test_early_stopping_pairs_answers_by_prompt(studied: Any) -> None:
    stops = {"ppo_stop_reason": "validation_referee", "ppo_iterations": 35, "ppo_saved_iteration": 20}
    asked, found, row = studied({"single": run_of(0.25), "stop-referee": run_of(0.75, **stops)})
    assert asked == [("stop-referee", "referee"), ("single", None)]
    assert found["gold_saved"] == found["gold_saved_low"] == found["gold_saved_high"] == 0.5
    assert row.startswith("| 4, referee | after 35 | 0.10, 1.60 | 20 (0.8) | 0.25 | 0.75 | 0.25 (60, 0.2) |")
    assert "+0.50 (+0.50 to +0.50)" in row


def test_a_run_that_nothing_stopped_is_its_own_end(studied: Any) -> None:
    asked, found, row = studied({"stop-referee": run_of(0.75)})
    assert asked == [("stop-referee", "referee")]
    assert found["gold_saved"] == 0.0
    assert row.startswith("| 4, referee | completed | 0.10, 1.60 | 60 (0.8) | 0.75 | 0.75 | 0.75 (60, 0.8) |")
    best = {"ppo_saved_iteration": 40}  # looks never stopped it, and yet it kept an earlier policy
    asked, found, row = studied({"stop-referee": run_of(0.75, **best), "single": run_of(0.25)})
    assert [name for name, _ in asked] == ["stop-referee", "single"]
    assert found["gold_saved"] == 0.5


def test_ensembles_are_averaged_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(work: Path, seed: int, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        assert changes.get("reward.aggregate") == (None if name == "single" else name)
        gold = seed + (0.5 if name == "worst" else 0.0)
        write_text(work / f"seed{seed}-{name}/plots/overoptimisation.csv", f"sqrt_kl,proxy,gold\n1.0,1.0,{gold}\n")
        return run_of(gold)

    monkeypatch.setattr(ensembles, "over_optimised", given)
    command = ["x", "--seeds", "0", "1", "--ways", "single", "worst", "--work", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    ensembles.main()
    rows = (tmp_path / "ensembles.md").read_text().splitlines()
    assert rows[2].startswith("| one head | – | 0.50 (0.00 / 1.00) | – |")
    assert rows[3].startswith("| worst of 5 | – | 1.00 (0.50 / 1.50) | – |")
    assert (tmp_path / "ensembles.png").read_bytes()[:4] == b"\x89PNG"
