"""What a sweep says of its experiments, by hand."""

import json
import re
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.sweep.read import read_experiments
from rlhf.sweep.settings import KL, Setting, Spread, best, frontier, measure, settings
from rlhf.sweep.write import write_sweep
from stages.sweep import main
from tests.sweep.shown import sweep

GOLD = "eval_gold_ppo"
LOW, HIGH, WORSE = (
    "ppo.kl_coef=0.1 ppo.lr=0.001",
    "ppo.kl_coef=0.5 ppo.lr=0.001",
    "ppo.kl_coef=0.5 ppo.lr=0.003",
)


def found() -> list[Setting]:
    return settings(read_experiments(sweep(), "x"))


def test_seeds_of_one_setting_are_one_row() -> None:
    low, high, worse = found()
    assert [low.name, high.name, worse.name] == [LOW, HIGH, WORSE]
    assert low.seeds == (0, 1)
    assert astuple(low.spreads[KL]) == (3.0, pytest.approx(2**0.5), 2)  # 2 and 4: 1 each way, over n - 1 = 1
    assert low.spreads[GOLD].mean == pytest.approx(0.7)
    assert high.spreads[GOLD] == Spread(0.4, None, 1)


@pytest.mark.parametrize(("beats", "by"), [(True, "eval_referee_ppo"), (False, "eval_reward_ppo")])
def test_no_setting_is_the_best_by_a_referee_that_does_not_beat_length(*, beats: bool, by: str) -> None:
    shown = sweep()
    for one in shown[1]["experiments"]:
        files = one["revs"][0]["data"]["metrics"]
        files["metrics/reward.json"] = {"data": {"reward_referee_beats_length": beats}}
        if evaluated := files.get("metrics/evaluate.json"):
            evaluated["data"] = {**evaluated["data"], "eval_referee_ppo": 1.0}
            evaluated["data"].pop(GOLD)
    assert measure(settings(read_experiments(shown, "x"))) == by


def test_states() -> None:
    """One that ended without metrics has failed; one that runs shows its commit's metrics, which are not its own."""
    states = {one.name: one.state for one in read_experiments(sweep(), "x")}
    assert [name for name, state in states.items() if state == "success"] == ["high-0", "low-0", "low-1", "worse-0"]
    assert [states[name] for name in ("broke", "empty", "going", "waits")] == ["failed", "failed", "running", "queued"]
    assert [one.metrics for one in read_experiments(sweep(), "x") if one.name == "going"] == [{}]


def test_frontier_and_budget() -> None:
    assert [one.name for one in frontier(found(), GOLD)] == [HIGH, LOW]
    for budget, name in ((None, LOW), (3.0, LOW), (2.9, HIGH), (1.0, HIGH), (0.9, None)):
        chosen = best(found(), GOLD, budget)
        assert (chosen and chosen.name) == name


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_frontier_rises_and_holds_the_best(points: list[tuple[int, int]]) -> None:
    made = [
        Setting((("x", i),), (0,), {KL: Spread(k, None, 1), GOLD: Spread(v, None, 1)})
        for i, (k, v) in enumerate(points)
    ]
    front = [(one.spreads[KL].mean, one.spreads[GOLD].mean) for one in frontier(made, GOLD)]
    assert all(k < x and v < w for (k, v), (x, w) in pairwise(front) if (k, v) != (x, w))
    assert max(v for _, v in points) == front[-1][1]
    assert min(k for k, _ in points) == front[0][0]


def test_the_truest_reward_that_all_have() -> None:
    shown = sweep()
    assert measure(found()) == GOLD
    for one in shown[1]["experiments"][:3]:
        del one["revs"][0]["data"]["metrics"]["metrics/evaluate.json"]["data"][GOLD]
    assert measure(settings(read_experiments(shown, "x"))) == "eval_reward_ppo"
    assert measure([]) is None


def line(text: str, words: str) -> str:
    """The one line that holds these words."""
    (found,) = [one for one in text.splitlines() if words in one]
    return found


def numbers(text: str, words: str) -> list[float]:
    """The numbers in that line, settings between backticks left out."""
    bare = re.sub(r"`[^`]*`", "", line(text, words))
    return [float(found) for found in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", bare)]


def test_the_report(tmp_path: Path) -> None:
    write_sweep(read_experiments(sweep(), "x"), tmp_path, 2.9)
    text = (tmp_path / "sweep.md").read_text()
    assert numbers(text, "experiments are compared")[:3] == [4, 8, 3]
    assert f"| `{LOW}` | 0, 1 | 3 ± 1.4 | 0.7 ± 0.28 | 1.4 ± 0.57 | 0.5 ± 0 | yes |" in text
    assert f"| `{WORSE}` | 0 | 1.5 | 0.3 | 0.6 | 0.5 |  |" in text
    assert f"`{HIGH}`" in line(text, "Within 2.9")
    assert numbers(text, "Within 2.9")[-2:] == [0.4, 1]
    assert "- failed: broke, empty\n- queued: waits\n- running: going" in text
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    write_sweep(read_experiments(sweep(), "x"), tmp_path, 0.9)
    none = line((tmp_path / "sweep.md").read_text(), "Within 0.9")
    assert "`" not in none
    assert numbers(none, "Within")[-1] == 1


def metrics_of(shown: list[dict[str, Any]], name: str) -> dict[str, float]:
    """What the evaluation of one experiment holds, to be changed in place."""
    (one,) = [one for one in shown[1]["experiments"] if one["name"] == name]
    found: dict[str, float] = one["revs"][0]["data"]["metrics"]["metrics/evaluate.json"]["data"]
    return found


def test_experiments_without_gold_are_named_and_the_next_judge_is_taken(tmp_path: Path) -> None:
    shown = sweep()
    del metrics_of(shown, "high-0")[GOLD]
    write_sweep(read_experiments(shown, "x"), tmp_path, None)
    text = (tmp_path / "sweep.md").read_text()
    assert "high-0" in line(text, "gold reward is missing")
    best = line(text, "Without a limit on KL")
    assert f"`{LOW}`" in best
    assert "1.4 ± 0.57" in best


def test_one_that_was_not_measured_does_not_spoil_the_others(tmp_path: Path) -> None:
    shown = sweep()
    del metrics_of(shown, "low-1")[KL]
    write_sweep(read_experiments(shown, "x"), tmp_path, None)
    text = (tmp_path / "sweep.md").read_text()
    assert numbers(text, "experiments are compared")[:3] == [3, 8, 3]
    assert "low-1" in line(text, "finished without")
    assert "±" not in text.split("| setting")[1]


def test_nothing_to_compare(tmp_path: Path) -> None:
    waiting = sweep()
    waiting[1]["experiments"] = waiting[1]["experiments"][4:]
    with pytest.raises(UserError, match="found: 2 failed, 1 queued, 1 running"):
        write_sweep(read_experiments(waiting, "x"), tmp_path, None)
    with pytest.raises(UserError, match="found: none"):
        write_sweep([], tmp_path, None)
    for broken in ({"a": 1}, [{"experiments": [{"revs": []}]}], [3]):
        bad: Any = broken
        with pytest.raises(UserError, match="not what `dvc exp show --json` writes"):
            read_experiments(bad, "x")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(tmp_path)
    Path("shown.json").write_text(json.dumps(sweep()))
    done = CliRunner().invoke(main, ["--from", "shown.json", "--kl-budget", "2"])
    assert (done.exit_code, done.stdout) == (0, "reports/sweep.md\n")
    assert HIGH in Path("reports/sweep.md").read_text()
    refused = CliRunner().invoke(main, ["--from", "none.json"])
    assert (refused.exit_code, refused.stderr) == (1, "error: none.json: no such file\n")


def test_settings_with_odd_names_are_written(tmp_path: Path) -> None:
    """Names of settings hold values of parameters, which may be anything: TeX, Markdown, a terminal's commands."""
    shown = json.dumps(sweep()).replace("0.003", "1")
    value = json.loads(shown)
    odd = ["$\\\\frac{$|`x`", "_\x1b[2J\u202e<script>", "$x$ & y\n| z"]

    def paint(node: Any) -> None:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
            paint(child)
        if isinstance(node, dict) and isinstance(node.get("ppo"), dict) and "lr" in node["ppo"]:
            node["ppo"]["lr"] = odd[int(node["ppo"].get("kl_coef", 0) * 10) % 3]

    paint(value)
    write_sweep(read_experiments(value, "x"), tmp_path, None)
    text = (tmp_path / "sweep.md").read_text()
    assert (tmp_path / "sweep.png").stat().st_size > 1000
    assert not re.search("[\x1b\u202e]", text)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
