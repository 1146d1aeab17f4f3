import json
import math
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.evaluate.overoptimisation import CurvePoint, Episode, overoptimisation, read_episodes, smoothed, summary

ROW = {"iteration": 0, "prompt": "p", "response": " r", "ended": True, "score": 1, "kl": 0.5}


def episode(iteration: int, kl: float, score: float, response: str = "") -> Episode:
    return Episode(iteration, "p", response, True, score, kl)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_points_are_means_of_iterations_in_order() -> None:
    episodes = [episode(2, 4.0, 3.0, "xx"), episode(0, -0.2, 0.0, "x"), episode(2, 5.0, 5.0, ""), episode(0, 0.1, 1.0)]
    points = overoptimisation(episodes, lambda prompt, response, ended: float(len(response)))
    assert points == [CurvePoint(0, 0.0, 0.5, 0.5, None), CurvePoint(2, math.sqrt(4.5), 4.0, 1.0, None)]
    judged = overoptimisation(episodes, None, [4.0, 1.0, 5.0, 2.0])
    assert [point.referee for point in judged] == [1.5, 4.5]
    assert [point.gold for point in overoptimisation(episodes, None)] == [None, None]


def test_gold_sees_prompt_response_and_ending() -> None:
    seen = []
    overoptimisation([Episode(0, "a", "b", False, 0.0, 0.0)], lambda *given: float(len(seen.append(given) or "")))  # type: ignore[func-returns-value]
    assert seen == [("a", "b", False)]


def test_smoothing_by_hand() -> None:
    assert smoothed([0.0, 3.0, 6.0, 0.0]) == [1.5, 3.0, 3.0, 3.0]
    assert smoothed([2.0]) == [2.0]
    assert smoothed([]) == []


def test_summary_finds_the_peak_and_what_was_lost() -> None:
    golds = [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]
    found = summary([CurvePoint(10 * k, k / 2, float(k), gold, -gold) for k, gold in enumerate(golds)])
    assert found["eval_gold_peak"] == pytest.approx(7 / 3)
    assert (found["eval_gold_peak_iteration"], found["eval_gold_peak_sqrt_kl"]) == (30, 1.5)
    assert found["eval_gold_end"] == 0.5
    assert found["eval_gold_lost"] == pytest.approx(7 / 3 - 0.5)
    assert (found["eval_proxy_start"], found["eval_proxy_end"]) == (0.5, 5.5)
    assert (found["eval_referee_peak"], found["eval_referee_end"], found["eval_referee_lost"]) == (-0.5, -0.5, 0.0)
    assert found["eval_referee_peak_iteration"] == 0


def test_without_gold_or_episodes_there_is_no_number() -> None:
    assert summary([])["eval_proxy_end"] is None
    found = summary([CurvePoint(0, 0.0, 1.0, None, None)])
    assert found["eval_referee_lost"] is None
    assert found["eval_proxy_end"] == 1.0
    assert found["eval_gold_peak"] is None


@pytest.mark.parametrize("change", [{"kl": "much"}, {"ended": 1}, {"iteration": 0.5}, {"iteration": True}])
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = write(tmp_path / "ppo.jsonl", ROW, ROW | change)
    with pytest.raises(UserError, match=rf"ppo\.jsonl:2: {next(iter(change))}: found"):
        read_episodes(path)


def test_reads_what_ppo_logged(tmp_path: Path) -> None:
    path = write(tmp_path / "ppo.jsonl", ROW, ROW | {"score": None}, ROW | {"kl": None})
    assert read_episodes(path) == [Episode(0, "p", " r", True, 1, 0.5)]
