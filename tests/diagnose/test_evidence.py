"""Evidence from what is on disk, and from what is not."""

from pathlib import Path

import pytest

from rlhf.core.artifacts import write_json
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.diagnose.all_verdicts import all_verdicts
from rlhf.diagnose.evidence import STAGES, Change, Estimate, Point, evidence_of, read_evidence
from tests.diagnose.made import LIMITS, NOTHING

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_gives_nothing_and_every_verdict_is_unknown() -> None:
    assert evidence_of({}, [], []) == NOTHING
    assert {verdict.state for verdict in all_verdicts(NOTHING, LIMITS, {})} == {"unknown"}


def test_by_hand() -> None:
    metrics = {
        "eval_gold_winrate": 0.6, "eval_gold_winrate_low": 0.55, "eval_gold_winrate_high": 0.65,
        "eval_judge_winrate": 0.5, "eval_people_winrate": None,
        "eval_length_sft": 10, "eval_length_ppo": 15.0,
        "eval_sycophancy_gain": 0.2, "eval_sycophancy_effect_gain": 0.1,
        "eval_kl": float("nan"), "ppo_stop_reason": "completed",
    }  # fmt: skip
    rows = [{"score": "0.5", "clip_fraction": "", "approx_kl": "nan"}]
    found = evidence_of(metrics, rows, [{"sqrt_kl": "1.5", "proxy": "2", "gold": ""}, {"sqrt_kl": "", "proxy": "1"}])
    assert found.judges == {"gold": Estimate(0.6, 0.55, 0.65), "judge": Estimate(0.5, 0.5, 0.5)}
    assert found.confidant == "gold"
    assert (found.length, found.length.ratio) == (Change(10.0, 15.0), 1.5)
    assert found.beliefs == Estimate(0.1, 0.1, 0.1)
    assert (found.kl, found.stop_reason) == (None, "completed")
    assert found.updates[0].score == 0.5
    assert found.updates[0].clip_fraction is found.updates[0].approx_kl is found.updates[0].value_loss is None
    assert found.points == (Point(1.5, 2.0, None, None),)


def test_the_ratio_to_nothing_is_not_known() -> None:
    assert Change(0.0, 1.0).ratio is Change(None, 1.0).ratio is Change(1.0, None).ratio is None


class Noting(dict[str, object]):
    """Metrics that note which of them were asked for."""

    asked: set[str]

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def test_each_metric_may_be_missing_or_of_another_kind() -> None:
    metrics, known = Noting(), -1
    metrics.asked = set()
    while len(metrics) > known:  # whatever is asked for, and what is then asked for besides
        known = len(metrics)
        evidence_of(metrics, [], [])
        metrics |= dict.fromkeys(metrics.asked, 0.5)
    assert len(metrics.asked) > 30
    for name in metrics.asked:
        rest = {key: value for key, value in metrics.items() if key != name}
        for odd in ({}, {name: None}, {name: "x"}):
            assert all_verdicts(evidence_of(rest | odd, [], []), LIMITS, {})


def test_curves_may_be_missing_and_metrics_may_not(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    for stage in STAGES[:-1]:
        write_json(at.metrics(stage), {})
    with pytest.raises(UserError, match=r"evaluate\.json: no such file"):
        read_evidence(at)
    write_json(at.metrics(STAGES[-1]), {})
    assert read_evidence(at) == NOTHING


def test_a_referee_that_does_not_beat_length_is_no_judge() -> None:
    metrics: dict[str, object] = {
        "eval_referee_winrate": 0.9, "eval_people_winrate": 0.6, "reward_referee_beats_length": False,
    }  # fmt: skip
    row = {"sqrt_kl": "1.0", "proxy": "2.0", "referee": "3.0"}
    found = evidence_of(metrics, [], [row])
    assert found.referee_is_none
    assert set(found.judges) == {"people"}
    assert found.points[0].referee is None
    for other in ({"reward_referee_beats_length": True}, {"eval_referee_by": "own:score"}):
        kept = evidence_of(metrics | other, [], [row])
        assert set(kept.judges) == {"people", "referee"}
        assert (kept.referee_is_none, kept.points[0].referee) == (False, 3.0)


def test_a_functions_rewards_are_in_standard_deviations_of_sfts_and_no_reward_model_is_evidence() -> None:
    metrics: dict[str, object] = {
        "eval_reward_gain": 0.3, "eval_reward_gain_low": 0.2, "eval_reward_gain_high": 0.5, "reward_accuracy": 0.4,
        "reward_over_length": -0.1, "reward_length_r2": 0.5,
    }  # fmt: skip
    row = {"score": "0.2", "value_loss": "0.08", "approx_kl": "0.01"}
    of_model = evidence_of(metrics, [row], [])
    assert (of_model.proxy_gain, of_model.accuracy) == (Estimate(0.3, 0.2, 0.5), Estimate(0.4, 0.4, 0.4))
    found = evidence_of(metrics | {"eval_reward_by": "vader:compound", "eval_reward_std_sft": 0.4}, [row], [])
    assert found.proxy_gain is not None
    assert (found.proxy_gain.value, found.proxy_gain.low) == (pytest.approx(0.75), pytest.approx(0.5))
    assert found.updates[0].score == pytest.approx(0.5)
    assert found.updates[0].value_loss == pytest.approx(0.5)
    assert found.updates[0].approx_kl == 0.01
    assert found.accuracy is found.over_length is found.length_r2 is None
