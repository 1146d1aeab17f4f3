"""A run's metrics, and the words that they allow: what rose is said to have risen only where its interval says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HALF = 0.5  # a win rate without any difference


@dataclass(frozen=True, slots=True)
class Numbers:
    """All metrics of a run by name; names are unique over stages. A metric that is null counts as not measured."""

    values: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def has(self, *names: str) -> bool:
        """Whether all of them were measured."""
        return all(name in self for name in names)

    def __getitem__(self, name: str) -> Any:
        """The value. Raises KeyError where it was not measured."""
        if name not in self:
            raise KeyError(name)
        return self.values[name]

    def number(self, name: str) -> float | None:
        """The value as a number; None if it is not one."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def interval(self, name: str) -> tuple[float, float] | None:
        """The ends of its 95 % interval; None where it has none."""
        low, high = self.number(f"{name}_low"), self.number(f"{name}_high")
        return None if low is None or high is None else (low, high)

    def show(self, name: str, digits: int = 2) -> str:
        """The value alone; – where it was not measured. A small one keeps two digits that are not 0."""
        value = self.values.get(name)
        small = isinstance(value, float) and 0 < abs(value) < 10 ** (1 - digits)
        return f"{value:.2g}" if small else show(value, digits)

    def span(self, name: str, digits: int = 2) -> str:
        """The value with its interval in brackets, where it has one."""
        ends = self.interval(name)
        if ends is None:
            return self.show(name, digits)
        return f"{show(self.values.get(name), digits)} ({show(ends[0], digits)} to {show(ends[1], digits)})"

    def moved(self, gain: str) -> str:
        """What a difference allows to be said: rose, fell, or neither."""
        ends, value = self.interval(gain), self.number(gain)
        if ends is None:
            return "rose" if (value or 0) > 0 else "fell" if (value or 0) < 0 else "stayed"
        return "rose" if ends[0] > 0 else "fell" if ends[1] < 0 else "did not move beyond its interval"

    def wins(self, rate: str) -> str:
        """What a win rate allows to be said."""
        low, high = self.interval(rate) or (self[rate], self[rate])
        return "wins more often than it loses" if low > HALF else (
            "loses more often than it wins" if high < HALF else "neither wins nor loses beyond what chance allows"
        )  # fmt: skip


def show(value: object, digits: int = 2) -> str:
    """A number as text: whole ones with thousands apart, the rest with `digits` decimals; – for None."""
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
    """0.154 as 15 %."""
    return f"{100 * share:.0f} %"
