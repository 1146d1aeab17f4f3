"""Experiments that differ in the seed alone are one setting: its mean, its spread, and whether it is worth having."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.sweep.read import SEED, Experiment

KL = "eval_kl"
REWARDS = ("eval_gold_ppo", "eval_referee_ppo", "eval_reward_ppo")  # the truest first
SHOWN = (KL, *REWARDS, "eval_gold_winrate")


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over seeds: mean, and standard deviation (n - 1 in the denominator), which one seed does not have."""

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))


@dataclass(frozen=True, slots=True)
class Setting:
    """Values of the parameters that the sweep varies, and what came of them."""

    values: tuple[tuple[str, object], ...]
    seeds: tuple[object, ...]
    spreads: dict[str, Spread]  # by metric; those that every one of its experiments has

    @property
    def name(self) -> str:
        """As in ppo.kl_coef=0.1 ppo.lr=0.001."""
        return " ".join(f"{key}={value}" for key, value in self.values) or "as committed"


def comparable(one: Experiment) -> bool:
    """Whether it succeeded, and its distance and some reward were measured."""
    measured = [name for name in (KL, *REWARDS) if isinstance(one.metrics.get(name), int | float)]
    return one.state == "success" and KL in measured and len(measured) > 1


def varied(experiments: Sequence[Experiment]) -> list[str]:
    """Names of the parameters, the seed aside, that differ between experiments."""
    names = sorted({name for one in experiments for name in one.params} - {SEED})
    return [name for name in names if len({repr(one.params.get(name)) for one in experiments}) > 1]


def settings(experiments: Sequence[Experiment]) -> list[Setting]:
    """The settings of those that can be compared, in the order of their values."""
    done = [one for one in experiments if comparable(one)]
    names, groups = varied(done), defaultdict(list)
    for one in done:
        groups[tuple((name, one.params.get(name)) for name in names)].append(one)
    return [_setting(values, groups[values]) for values in sorted(groups, key=_order)]


def measure(found: Sequence[Setting]) -> str | None:
    """The truest reward that every setting has; None where they share none, or there is none."""
    return next((name for name in REWARDS if found and all({name, KL} <= set(one.spreads) for one in found)), None)


def lacking(experiments: Sequence[Experiment], reward: str) -> dict[str, list[str]]:
    """Rewards that are truer than `reward` and that some experiments have, with the names of those that have not."""
    done = [one for one in experiments if comparable(one)]
    found = {}
    for truer in REWARDS[: REWARDS.index(reward)]:
        without = [one.name for one in done if not isinstance(one.metrics.get(truer), int | float)]
        if len(without) < len(done):
            found[truer] = without
    return found


def frontier(found: Sequence[Setting], reward: str) -> list[Setting]:
    """Settings that no other beats with as little KL and as much reward (means; the Pareto front), by KL."""

    def beaten(one: Setting) -> bool:
        kl, value = one.spreads[KL].mean, one.spreads[reward].mean
        others = [(other.spreads[KL].mean, other.spreads[reward].mean) for other in found]
        return any(k <= kl and v >= value and (k, v) != (kl, value) for k, v in others)

    return sorted((one for one in found if not beaten(one)), key=lambda one: one.spreads[KL].mean)


def best(found: Sequence[Setting], reward: str, budget: float | None) -> Setting | None:
    """The setting with the highest mean reward among those whose mean KL is within the budget; None if none is."""
    within = [one for one in found if budget is None or one.spreads[KL].mean <= budget]
    return max(within, key=lambda one: one.spreads[reward].mean, default=None)


def _setting(values: tuple[tuple[str, object], ...], runs: Sequence[Experiment]) -> Setting:
    columns = {
        name: [float(v) for run in runs if isinstance(v := run.metrics.get(name), int | float)] for name in SHOWN
    }
    spreads = {name: Spread.of(numbers) for name, numbers in columns.items() if len(numbers) == len(runs)}
    return Setting(values, tuple(sorted((run.seed for run in runs), key=repr)), spreads)


def _order(values: tuple[tuple[str, object], ...]) -> list[tuple[bool, float, str]]:
    """Numbers by size, then everything else by its text."""
    found = []
    for _, value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        found.append((not number, float(value) if number else 0.0, str(value)))  # type: ignore[arg-type] # a number
    return found
