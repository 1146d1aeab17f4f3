"""Hold a run's metrics and choose words by them: a number "rose" only where its interval says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HALF = 0.5  # a win rate without any difference
NAMES = {"base": "base", "sft": "SFT", "ppo": "PPO", "dpo": "DPO", "ipo": "IPO", "rrhf": "RRHF"}  # of policies
REWARDS = {"gold": "gold reward", "referee": "referee", "reward": "reward model"}  # the most trustworthy first
NO_REFEREE = (
    "The referee does not beat the rule that the longer reply wins: it is no referee, and its scores and win rates "
    "decide nothing."
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """All metrics of a run by name; names are unique over stages. A metric that is null counts as not measured."""

    values: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def has(self, *names: str) -> bool:
        """Tell whether all of them were measured."""
        return all(name in self for name in names)

    def __getitem__(self, name: str) -> Any:
        """Return the value. Raises KeyError where it was not measured."""
        if name not in self:
            raise KeyError(name)
        return self.values[name]

    def number(self, name: str) -> float | None:
        """Return the value as a number, or None if it is not one."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the ends of its 95 % interval, or None where it has none."""
        low, high = self.number(f"{name}_low"), self.number(f"{name}_high")
        return None if low is None or high is None else (low, high)

    def show(self, name: str, digits: int = 2) -> str:
        """Format the value alone; – where it was not measured. Small values keep two significant digits."""
        value = self.values.get(name)
        small = isinstance(value, float) and 0 < abs(value) < 10 ** (1 - digits)
        return f"{value:.2g}" if small else show(value, digits)

    def span(self, name: str, digits: int = 2) -> str:
        """Format the value with its interval in brackets, where it has one."""
        ends = self.interval(name)
        if ends is None:
            return self.show(name, digits)
        return f"{show(self.values.get(name), digits)} ({show(ends[0], digits)} to {show(ends[1], digits)})"

    def moved(self, gain: str) -> str:
        """Say whether a difference rose, fell or neither, by its interval where it has one."""
        ends, value = self.interval(gain), self.number(gain)
        if ends is None:
            return "rose" if (value or 0) > 0 else "fell" if (value or 0) < 0 else "stayed"
        return "rose" if ends[0] > 0 else "fell" if ends[1] < 0 else "did not move beyond its interval"

    def wins(self, rate: str) -> str:
        """Say whether a win rate is above or below one half, or neither, by its interval where it has one."""
        low, high = self.interval(rate) or (self[rate], self[rate])
        return "wins more often than it loses" if low > HALF else (
            "loses more often than it wins" if high < HALF else "neither wins nor loses beyond what chance allows"
        )  # fmt: skip


def referee_is_none(n: Numbers) -> bool:
    """Tell whether this run's referee does not beat the rule "the longer one wins": its win rates then decide nothing.
    A function in its place has not been held against that rule."""
    return n.values.get("reward_referee_beats_length") is False and "eval_referee_by" not in n


def show(value: object, digits: int = 2) -> str:
    """Format a value: integers with thousands separators, floats with `digits` decimals; – for None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.{digits}f}"
    return str(value)


def percent(share: float) -> str:
    """Format a share: 0.154 as 15 %."""
    return f"{100 * share:.0f} %"
