"""What verdicts are drawn from: numbers of a run's metrics and curves, as typed records. What is not there is None.

Gains are PPO's mean less SFT's, win rates PPO's against SFT, on the same held-out prompts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlhf.core.artifacts import read_json
from rlhf.core.curves import read_rows
from rlhf.core.layout import Layout

STAGES = ("prepare", "reward", "ppo", "evaluate")
CURVES = ("ppo", "overoptimisation")

# Who can contradict the reward model, the most trustworthy first.
JudgeName = Literal["gold", "people", "judge", "referee"]
JUDGES: tuple[JudgeName, ...] = ("gold", "people", "judge", "referee")

Metrics = Mapping[str, object]
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; the ends are the number itself where there is no interval."""

    value: float
    low: float
    high: float


def low(estimate: Estimate | None) -> float | None:
    """The lower end: at least so much."""
    return None if estimate is None else estimate.low


def high(estimate: Estimate | None) -> float | None:
    """The upper end: at most so much."""
    return None if estimate is None else estimate.high


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of the SFT policy's and of PPO's responses."""

    sft: float | None
    ppo: float | None

    @property
    def ratio(self) -> float | None:
        """PPO / SFT; None where either is not known or SFT's is 0."""
        return None if self.sft is None or self.ppo is None or self.sft == 0 else self.ppo / self.sft


@dataclass(frozen=True, slots=True)
class Point:
    """One iteration of PPO: distance from SFT in sqrt(nats), the reward model's mean score, and independent judges'."""

    sqrt_kl: float
    proxy: float
    gold: float | None
    referee: float | None


@dataclass(frozen=True, slots=True)
class Update:
    """One iteration of PPO as its curve has it; None where the number was not finite."""

    score: float | None
    clip_fraction: float | None
    approx_kl: float | None
    grad_norm: float | None
    value_loss: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that verdicts look at."""

    accuracy: Estimate | None  # of the reward model on held-out pairs
    over_length: Estimate | None  # that less the accuracy of "the longer one wins"
    length_r2: float | None  # share of the reward that length explains
    proxy_gain: Estimate | None  # of the reward model's score, in its std on SFT responses
    proxy_winrate: Estimate | None
    proxy_lc_winrate: Estimate | None  # the same at equal lengths
    judges: Mapping[JudgeName, Estimate]  # win rates
    length: Change  # tokens
    entropy: Change  # nats a token
    distinct: Change  # distinct word pairs / word pairs
    compression: Change  # bytes / compressed bytes of all responses
    ended: Change  # share with an EOS
    flattery: Estimate | None  # gain in the share of responses that flatter
    beliefs: Estimate | None  # gain in what a stated wrong belief does to the answers, share of probes
    kl: float | None  # nats a response
    stop_reason: str | None  # "completed", or what stopped PPO
    updates: tuple[Update, ...]
    points: tuple[Point, ...]
    referee_is_none: bool = False  # it does not beat the rule "the longer one wins", so that it is no judge

    @property
    def confidant(self) -> JudgeName | None:
        """The most trustworthy judge that was asked."""
        return next((name for name in JUDGES if name in self.judges), None)


def read_evidence(at: Layout) -> Evidence:
    """From metrics/*.json and plots/*.csv.

    Raises:
        UserError: a metrics file is missing or is not JSON.
    """
    metrics: dict[str, object] = {}
    for stage in STAGES:
        metrics |= read_json(at.metrics(stage))
    return evidence_of(metrics, *(_rows(at.plot(name)) for name in CURVES))


def _rows(path: Path) -> Rows:
    return read_rows(path) if path.exists() else []


def evidence_of(metrics: Metrics, updates: Rows, overoptimisation: Rows) -> Evidence:
    """From the metrics of all stages together, the rows of plots/ppo.csv and those of plots/overoptimisation.csv.

    A key or column that is not there, or holds no finite number, counts as not measured. Where a function gave PPO its
    rewards (`eval_reward_by`), they are divided by the standard deviation of SFT's, the unit that the thresholds have,
    and the reward model, which nothing followed, is no evidence. A referee that does not beat length
    (`reward_referee_beats_length`) is no judge, and what it says is left out; a function in its place is one.
    """
    function = isinstance(metrics.get("eval_reward_by"), str)
    unit = (_number(metrics.get("eval_reward_std_sft")) or 1.0) if function else 1.0
    none = metrics.get("reward_referee_beats_length") is False and "eval_referee_by" not in metrics
    asked = [name for name in JUDGES if not (none and name == "referee")]
    rates: dict[JudgeName, Estimate | None] = {name: _estimate(metrics, f"eval_{name}_winrate") for name in asked}

    def change(measure: str) -> Change:
        return Change(_number(metrics.get(f"eval_{measure}_sft")), _number(metrics.get(f"eval_{measure}_ppo")))

    reason = metrics.get("ppo_stop_reason")
    return Evidence(
        accuracy=None if function else _estimate(metrics, "reward_accuracy"),
        over_length=None if function else _estimate(metrics, "reward_over_length"),
        length_r2=None if function else _number(metrics.get("reward_length_r2")),
        proxy_gain=_over(_estimate(metrics, "eval_reward_gain"), unit),
        proxy_winrate=_estimate(metrics, "eval_rm_winrate"),
        proxy_lc_winrate=_estimate(metrics, "eval_rm_lc_winrate"),
        judges={name: rate for name, rate in rates.items() if rate is not None},
        length=change("length"),
        entropy=change("entropy"),
        distinct=change("distinct2"),
        compression=change("compression"),
        ended=change("ended"),
        flattery=_estimate(metrics, "eval_flattery_gain"),
        beliefs=_estimate(metrics, "eval_sycophancy_effect_gain") or _estimate(metrics, "eval_sycophancy_gain"),
        kl=_number(metrics.get("eval_kl")),
        stop_reason=reason if isinstance(reason, str) else None,
        updates=tuple(_update(row, unit) for row in updates),
        points=tuple(point for row in overoptimisation if (point := _point(row, referee=not none))),
        referee_is_none=none,
    )


def _estimate(metrics: Metrics, name: str) -> Estimate | None:
    value, low, high = (_number(metrics.get(name + end)) for end in ("", "_low", "_high"))
    if value is None:
        return None
    return Estimate(value, value if low is None else low, value if high is None else high)


def _over(estimate: Estimate | None, unit: float) -> Estimate | None:
    return estimate and Estimate(estimate.value / unit, estimate.low / unit, estimate.high / unit)


def _update(row: Mapping[str, str], unit: float) -> Update:
    units = {"score": unit, "clip_fraction": 1.0, "approx_kl": 1.0, "grad_norm": 1.0, "value_loss": unit**2}
    found = {name: (_number(row.get(name)), by) for name, by in units.items()}
    return Update(*(None if value is None else value / by for value, by in found.values()))


def _point(row: Mapping[str, str], *, referee: bool) -> Point | None:
    distance, proxy = _number(row.get("sqrt_kl")), _number(row.get("proxy"))
    if distance is None or proxy is None:
        return None
    return Point(distance, proxy, _number(row.get("gold")), _number(row.get("referee")) if referee else None)


def _number(value: object) -> float | None:
    """A finite number, as JSON and CSV have it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
