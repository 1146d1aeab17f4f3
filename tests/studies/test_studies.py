"""Studies of over-optimisation and of seeds: what they ask for, and what their tables are made of."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, write_json, write_jsonl, write_text
from rlhf.core.errors import UserError
from studies import (
    alternatives,
    early_stopping,
    ensembles,
    frontier,
    overoptimised,
    reward_variants,
    seed_spread,
    seeds,
)
from studies.command import RESULTS, run_command
from studies.planted import __main__ as planted
from studies.run import ROOT, Run
from tests.studies.pretend import pretend_make


def test_gold_at_equal_kl_by_hand() -> None:
    points = [[0.0, 1.0, 0.0], [0.9, 2.0, 0.0], [1.1, 4.0, 0.0], [1.3, 8.0, 0.0], [2.0, 16.0, 0.0]]
    assert ensembles.at_equal_kl(points, (0.0, 1.0, 1.5, 3.0)) == [1.0, 3.0, 8.0, None]


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = overoptimised.over_optimised(tmp_path, 3, "worst", {}).folder
    assert folder == tmp_path / "seed3-worst"
    write_text(folder / "plots/overoptimisation.csv", "iteration,sqrt_kl,proxy,gold,referee\n0,0.5,1.0,2.0,\n")
    assert overoptimised.curve(folder) == [{"iteration": 0.0, "sqrt_kl": 0.5, "proxy": 1.0, "gold": 2.0}]
    write_jsonl(folder / "artifacts/evaluate/samples.jsonl", [{"prompt": "p", "ppo_gold": 1.5, "sft_gold": 0.5}])
    assert overoptimised.golds(folder, "sft") == {"p": 0.5}


def test_a_run_makes_only_what_its_changes_concern(tmp_path: Path) -> None:
    def stages(changes: dict[str, Any]) -> tuple[str, ...]:
        run = overoptimised.over_optimised(tmp_path, 3, "x", changes)
        assert run.start is not None
        assert (run.start.folder.name, run.start.stages) == (
            "seed3",
            ("prepare", "base", "conformance", "sft", "reward"),
        )
        return run.stages

    assert stages(ensembles.WAYS["single"]) == ("ppo", "evaluate")
    assert stages(ensembles.WAYS["worst"]) == ("reward", "ppo", "evaluate")
    assert stages(early_stopping.LOOKS) == ("prepare", "ppo", "evaluate")  # which checks the prompts of looks


def run_of(gold: float, **more: Any) -> dict[str, Any]:
    names = ("eval_gold_sft", "eval_gold_peak", "eval_gold_peak_sqrt_kl", "eval_gold_ppo", "eval_gold_ppo_low",
             "eval_gold_ppo_high", "eval_reward_ppo", "eval_kl", "reward_accuracy")  # fmt: skip
    return dict.fromkeys(names, gold) | {
        "eval_gold_peak_iteration": 20, "ppo_iterations": 60, "ppo_saved_iteration": 60, "ppo_stop_reason": "completed",
        "reward_member_agreement": None, **more,
    }  # fmt: skip


def test_early_stopping_pairs_answers_by_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = {"ppo_stop_reason": "validation_referee", "ppo_iterations": 35, "ppo_saved_iteration": 20}
    runs = {"seed4-single": run_of(0.25), "seed4-stop-referee": run_of(0.75, **stops)}

    def act(run: Run) -> dict[str, Any]:
        name = run.folder.name
        rows = [{"prompt": p, "ppo_gold": runs[name]["eval_gold_ppo"] + k} for k, p in enumerate("abcd")]
        order = rows if name == "seed4-single" else rows[::-1]
        write_jsonl(run.folder / "artifacts/evaluate/samples.jsonl", order)
        write_text(run.folder / "plots/ppo.csv", "iteration,validation_reward\n0,0.1\n1,\n2,1.6\n")
        return runs[name]

    asked = pretend_make(monkeypatch, act)
    monkeypatch.setattr("sys.argv", ["x", "--seeds", "4", "--work", str(tmp_path), "--out", str(tmp_path / "out")])
    early_stopping.main()
    assert [(run.folder.name, run.changes.get("ppo.validation_by")) for run in asked] == [
        ("seed4-stop-referee", "referee"),
        ("seed4-single", None),
    ]
    found = read_json(tmp_path / "out/early_stopping.json")["referee-4"]
    row = (tmp_path / "out/early_stopping.md").read_text().splitlines()[2]
    assert found["gold_saved"] == found["gold_saved_low"] == found["gold_saved_high"] == 0.5
    assert row.startswith("| 4, referee | after 35 | 0.10, 1.60 | 20 (0.8) | 0.25 | 0.75 | 0.25 (60, 0.2) |")
    assert "+0.50 (+0.50 to +0.50)" in row


def test_ensembles_are_averaged_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(run: Run) -> dict[str, Any]:
        way = run.folder.name.partition("-")[2]
        assert run.changes.get("reward.aggregate") == (None if way == "single" else way)
        gold = float(str(run.changes["seed"])) + (0.5 if way == "worst" else 0.0)
        write_text(run.folder / "plots/overoptimisation.csv", f"sqrt_kl,proxy,gold\n1.0,1.0,{gold}\n")
        return run_of(gold)

    pretend_make(monkeypatch, act)
    command = ["x", "--seeds", "0", "1", "--ways", "single", "worst", "--work", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    ensembles.main()
    rows = (tmp_path / "ensembles.md").read_text().splitlines()
    assert rows[2].startswith("| one head | – | 0.50 (0.00 / 1.00) | – |")
    assert rows[3].startswith("| worst of 5 | – | 1.00 (0.50 / 1.50) | – |")
    assert (tmp_path / "ensembles.png").read_bytes()[:4] == b"\x89PNG"


def test_results_that_were_not_asked_for_stay_and_each_is_written_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(run: Run) -> dict[str, Any]:
        if run.changes["seed"] == 3:
            raise UserError("seed3: evaluate ended with status 1")
        return of_seed(0.6)

    def of_seed(value: float) -> dict[str, Any]:
        names = ("reward_accuracy", "reward_length_baseline", "reward_noise_ceiling", "eval_gold_base",
                 "eval_gold_sft", "eval_gold_ppo", "eval_gold_winrate")  # fmt: skip
        return dict.fromkeys(names, value)

    write_json(tmp_path / "seeds.json", {"10": of_seed(0.7)})
    pretend_make(monkeypatch, act)
    words = ["x", "--seeds", "2", "3", "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(UserError, match="seed3"):
        seeds.main()
    assert set(read_json(tmp_path / "seeds.json")) == {"2", "10"}
    rows = (tmp_path / "seeds.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 2", "| 10"]


STUDIES = (alternatives, early_stopping, ensembles, frontier, planted, reward_variants, seed_spread, seeds)


@pytest.mark.parametrize("module", STUDIES, ids=lambda module: module.__name__)
def test_every_study_has_the_same_options(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--help"])
    with pytest.raises(SystemExit, match="0"):
        module.main()
    said = capsys.readouterr().out
    assert all(option in said for option in ("--work", "--out", "--processes"))
    monkeypatch.setattr("sys.argv", ["x", "--processes", "0"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "name"),
    [(early_stopping, "early_stopping"), (ensembles, "ensembles"), (frontier, "frontier"),
     (reward_variants, "reward_variants"), (seeds, "seeds")],
)  # fmt: skip
def test_recorded_results_are_read_by_the_table_of_today(module: Any, name: str) -> None:
    recorded = RESULTS / f"{name}.json"
    assert module.table(read_json(recorded)) == recorded.with_suffix(".md").read_text(encoding="utf-8")


def test_recorded_alternatives_are_read_by_the_table_of_today() -> None:
    recorded = read_json(RESULTS / "alternatives.json")
    said = (RESULTS / "alternatives.md").read_text(encoding="utf-8")
    assert alternatives.table(recorded["policies"], recorded["costs"]).splitlines()[0] == said.splitlines()[0]


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("params.yaml: no key x")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=r"^error: params\.yaml: no key x$"):
        run_command(main)
    signal.signal(signal.SIGTERM, before)


def test_studies_start_without_numpy_and_torch() -> None:
    """Their threads are set before they are imported; and --help answers at once."""
    names = [module.__name__ for module in STUDIES]
    text = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "matplotlib"} & set(done.stdout.split())
