"""Compute proxy and gold reward over the distance from the SFT policy: is the reward model still being learnt from, or
only exploited? Gao, Schulman & Hilton 2022 (arXiv 2210.10760), who plot both over d = sqrt(KL)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError

Gold = Callable[[str, str, bool], float]  # prompt, response, ended -> true reward


@dataclass(frozen=True, slots=True)
class Episode:
    """One logged rollout; `score` is what the reward model gave it, `kl` its sampled KL to SFT in nats."""

    iteration: int
    prompt: str
    response: str
    ended: bool
    score: float
    kl: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One iteration on the over-optimisation curve: means over its episodes."""

    iteration: int
    sqrt_kl: float  # sqrt of nats; a negative sampled mean counts as 0
    proxy: float
    gold: float | None
    referee: float | None  # by the referee


def read_episodes(path: Path) -> list[Episode]:
    """Read PPO's logged episodes, without those that have no score or KL (null: they were not finite).

    Raises:
        UserError: a row lacks a key or holds another type (file:line, key, found).
    """
    kinds: dict[str, type | tuple[type, ...]] = {
        "iteration": int, "prompt": str, "response": str, "ended": bool, "score": (int, float), "kl": (int, float)
    }  # fmt: skip
    episodes = []
    for number, row in iter_jsonl(path):
        if None in (row.get("score", 0), row.get("kl", 0)):
            continue
        for key, kind in kinds.items():
            found = row.get(key)
            if not isinstance(found, kind) or isinstance(found, bool) != (kind is bool):  # True is an int to Python
                raise UserError(f"{path}:{number}: {key}: found {found!r:.40}; not what PPO logs")
        episodes.append(Episode(**{key: row[key] for key in kinds}))
    return episodes


def overoptimisation(
    episodes: Sequence[Episode], gold: Gold | None, referees: Sequence[float] | None = None
) -> list[CurvePoint]:
    """Average each iteration's episodes, in order of iterations; gold is None where the task has no gold reward.

    `referees`: what the referee gives each episode, if there is one.
    """
    points = []
    scored = list(zip(episodes, referees if referees is not None else [None] * len(episodes), strict=True))
    for iteration in sorted({episode.iteration for episode in episodes}):
        rows = [row for row in scored if row[0].iteration == iteration]
        inside, scores = [row[0] for row in rows], [row[1] for row in rows if row[1] is not None]
        golds = [gold(e.prompt, e.response, e.ended) for e in inside] if gold else None
        kl = _mean([e.kl for e in inside])
        proxy = _mean([e.score for e in inside])
        means = [_mean(found) if found else None for found in (golds, scores)]
        points.append(CurvePoint(iteration, math.sqrt(max(0.0, kl)), proxy, *means))
    return points


def smoothed(values: Sequence[float], width: int = 3) -> list[float]:
    """Compute a centred moving average, narrower at the ends: the maximum of single iterations would mostly find
    noise."""
    half = width // 2
    return [_mean(values[max(0, k - half) : k + half + 1]) for k in range(len(values))]


def summary(points: Sequence[CurvePoint]) -> dict[str, float | int | None]:
    """Summarise the smoothed curves of gold and of the referee: peak, end, and the loss between them; all None without
    the one, the other, or episodes."""
    proxy = smoothed([point.proxy for point in points])
    ends: dict[str, float | int | None] = {
        "eval_proxy_start": proxy[0] if proxy else None,
        "eval_proxy_end": proxy[-1] if proxy else None,
    }
    curves = {"gold": [point.gold for point in points], "referee": [point.referee for point in points]}
    return ends | {f"eval_{name}_{key}": value for name, curve in curves.items() for key, value in _peak(points, curve)}


def _peak(points: Sequence[CurvePoint], values: Sequence[float | None]) -> list[tuple[str, float | int | None]]:
    known = [value for value in values if value is not None]
    if not known:
        return [(key, None) for key in ("peak", "peak_iteration", "peak_sqrt_kl", "end", "lost")]
    curve = smoothed(known)
    best = max(range(len(curve)), key=curve.__getitem__)
    at = points[best]
    return [
        ("peak", curve[best]),
        ("peak_iteration", at.iteration),
        ("peak_sqrt_kl", at.sqrt_kl),
        ("end", curve[-1]),
        ("lost", curve[best] - curve[-1]),
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
