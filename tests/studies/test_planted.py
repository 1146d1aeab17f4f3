"""The recorded planted runs, judged again by the verdicts and thresholds of today."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_jsonl, write_text
from rlhf.core.layout import Layout
from rlhf.diagnose.params import Thresholds
from rlhf.params import resolve
from studies.planted.__main__ import main
from studies.planted.plants import KINDS, planned
from studies.planted.record import Judged, evidence, judge_all
from studies.planted.tables import page, summary
from studies.planted.tamper import RENAME_EOS, SHUFFLE_LABELS, rename_eos, shuffle_labels

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
    assert {kind.tamper for kind in KINDS.values()} - {None} == {SHUFFLE_LABELS, RENAME_EOS}
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


def test_the_end_is_renamed_in_base_and_sft(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    for name in ("base", "sft"):
        write_json(at.artifacts / name / "tokenizer.json", {"model": {"vocab": {"a": 0, "ÿ": 7, "end": 9}}})
        write_json(at.artifacts / name / "tokenizer_config.json", {"eos_token": "end"})
    write_json(at.base / "config.json", {"eos_token_id": 9})
    rename_eos(at, seed=0)
    assert read_json(at.sft / "tokenizer_config.json")["eos_token"] == "ÿ"
    assert read_json(at.base / "tokenizer_config.json")["eos_token"] == "ÿ"
    assert read_json(at.base / "config.json")["eos_token_id"] == 7


def test_what_a_fault_edits_is_the_runs_own_and_what_it_does_not_edit_is_shared(tmp_path: Path) -> None:
    for plant in planned("judged"):
        run = plant.run(tmp_path)
        assert run.start is not None
        edited = {out for tamper in [plant.kind.tamper] if tamper for out in tamper.outs}
        made = {out.as_posix() for step in run.stages for out in run.outs(step)}
        upstream = {out.as_posix() for stage in run.shared for out in run.outs(stage)}
        assert edited <= upstream, "or it would edit what no stage of the run reads"
        assert not edited & made
        assert ("data" in {key.partition(".")[0] for key in plant.kind.changes}) == ("prepare" in run.stages)


def test_collecting_judges_the_recorded_runs_anew_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    write_text(out / "planted.json", (RESULTS / "planted.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("sys.argv", ["x", "--collect", "--work", str(tmp_path / "none"), "--out", str(out)])
    main()
    assert json.loads((out / "planted.json").read_text(encoding="utf-8")) == RUNS
    assert (out / "planted.md").read_text(encoding="utf-8") == (RESULTS / "planted.md").read_text(encoding="utf-8")
    assert f"0 of {11 + 40} runs" in capsys.readouterr().err
