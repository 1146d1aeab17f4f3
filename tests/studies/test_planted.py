"""The recorded planted runs, judged again by the verdicts and thresholds of today."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_jsonl
from rlhf.core.layout import Layout
from rlhf.diagnose.params import Thresholds
from rlhf.params import resolve
from studies.planted.plants import KINDS, planned
from studies.planted.record import Judged, evidence, judge_all
from studies.planted.tables import page, summary
from studies.planted.tamper import TAMPERS, rename_eos, shuffle_labels

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS: list[dict[str, Any]] = json.loads((RESULTS / "planted.json").read_text())

# Planted failures that their right verdict does not call failed, of all that were run; every other one it does.
# In flattery-s2-flattery4.0 PPO found another way to please than to flatter: not one reply of it does.
KEYWORDS = {"keyword-s0", "keyword-s1", "keyword-s2-keywordhistory"}
NO_FLATTERY = {"flattery-s2-flattery4.0"}
MISSED: dict[bool, set[str]] = {False: NO_FLATTERY, True: NO_FLATTERY | KEYWORDS}  # by blind


@pytest.fixture(scope="module")
def limits() -> Thresholds:
    return resolve(ROOT / "params.yaml", ROOT / "profiles").diagnose


@pytest.mark.parametrize("blind", [False, True])
def test_planted_failures_are_named_and_sound_runs_are_not_accused(limits: Thresholds, blind: bool) -> None:
    judged = list(judge_all(RUNS, limits, blind=blind))
    assert {one.run["name"] for one in judged if one.right and one.named != "failed"} == MISSED[blind]
    assert [one.run["name"] for one in judged if not one.right and one.named == "failed"] == []
    assert summary(judged)["planted"] + summary(judged)["sound"] == len(RUNS)


def test_the_page_is_what_these_runs_and_thresholds_give(limits: Thresholds) -> None:
    assert (RESULTS / "planted.md").read_text(encoding="utf-8") == page(RUNS, limits)


def test_every_recorded_run_is_a_planned_one_and_the_sets_share_no_seed() -> None:
    plans = {run.name: run for which in ("calibration", "judged") for run in planned(which)}
    assert len(plans) == 11 + 40
    for run in RUNS:
        plan = plans[run["name"]]
        assert (run["set"], run["seed"], run["kind"]) == (plan.set, plan.seed, plan.kind.name)
    seeds = {which: {run.seed for run in planned(which)} for which in ("calibration", "judged")}
    assert not seeds["calibration"] & seeds["judged"]


def test_blind_means_without_gold() -> None:
    for run in RUNS[:3]:
        seen, blind = evidence(run), evidence(run, blind=True)
        assert "gold" in seen.judges
        assert "gold" not in blind.judges
        assert all(point.gold is None for point in blind.points)
        assert [point.proxy for point in seen.points] == [point.proxy for point in blind.points]


def test_a_right_verdict_is_written_down_for_every_plant() -> None:
    assert [kind.name for kind in KINDS.values() if kind.right is None] == ["sound"]
    assert {kind.tamper for kind in KINDS.values()} - {None} == set(TAMPERS)
    verdicts = {"length": "sound", "verbosity": "failed"}
    assert Judged({"kind": "length"}, {"verbosity": "failed"}).named == "failed"
    assert Judged({"kind": "sound"}, verdicts).named == "failed"  # type: ignore[arg-type]


def test_shuffling_swaps_about_half_and_keeps_the_pairs(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    rows = [{"prompt": str(k), "chosen": "a", "rejected": "b"} for k in range(200)]
    for split in ("train", "validation", "test"):
        write_jsonl(at.pairs / f"{split}.jsonl", rows)
    shuffle_labels(at, seed=0)
    shuffled = read_jsonl(at.pairs / "train.jsonl")
    assert [row["prompt"] for row in shuffled] == [row["prompt"] for row in rows]
    assert {(row["chosen"], row["rejected"]) for row in shuffled} == {("a", "b"), ("b", "a")}
    assert 70 < sum(row["chosen"] == "b" for row in shuffled) < 130


def test_the_end_is_renamed_in_a_copy_and_the_seed_keeps_its_own(tmp_path: Path) -> None:
    shared, at = tmp_path / "seed", Layout(tmp_path / "run")
    for name in ("base", "sft"):
        write_json(shared / name / "tokenizer.json", {"model": {"vocab": {"a": 0, "ÿ": 7, "end": 9}}})
        write_json(shared / name / "tokenizer_config.json", {"eos_token": "end"})
        at.artifacts.mkdir(parents=True, exist_ok=True)
        (at.artifacts / name).symlink_to(shared / name)
    write_json(shared / "base" / "config.json", {"eos_token_id": 9})
    rename_eos(at, seed=0)
    assert read_json(at.sft / "tokenizer_config.json")["eos_token"] == "ÿ"
    assert read_json(at.base / "config.json")["eos_token_id"] == 7
    assert read_json(shared / "base" / "config.json")["eos_token_id"] == 9
