"""Measure how far annotators agree: two by Cohen's kappa, any number by Krippendorff's alpha, each two side by side.

A unit is one thing that was labelled: who said what of it. Who said nothing is not in it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from rlhf.core.stats import Interval, wilson

Label = str | int | float
Unit = Mapping[str, Label]  # annotator -> label
Level = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, slots=True)
class Couple:
    """Two annotators on the units that both labelled."""

    first: str
    second: str
    units: int
    agreement: Interval  # share of equal labels, with Wilson's interval
    kappa: float | None  # None where both gave one and the same label throughout


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A unit on which annotators differ."""

    unit: int  # its index in the list
    labels: Mapping[str, Label]
    share: float  # of its pairs of labels, those that differ


def cohens_kappa(first: Sequence[Label], second: Sequence[Label]) -> float | None:
    """Compute (p_o - p_e) / (1 - p_e): agreement beyond chance between two annotators of the same units (Cohen 1960).

    1 is perfect, 0 is what chance gives, below 0 is worse. None where chance alone would agree always: both gave one
    and the same label throughout.

    Raises:
        ValueError: no units, or sequences of different length.
    """
    n = len(first)
    if n == 0 or n != len(second):
        raise ValueError(f"kappa needs equal, non-empty sequences, got {n} and {len(second)}")
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    here, there = Counter(first), Counter(second)
    chance = sum(here[label] * there[label] for label in here) / n**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def krippendorffs_alpha(units: Sequence[Unit], level: Level = "nominal") -> float | None:
    """Compute 1 - D_o / D_e for any number of annotators and missing labels (Krippendorff 2011, Computing
    Krippendorff's Alpha-Reliability, section C).

    D_o is the observed, D_e the chance disagreement, by the squared difference of the level: nominal (equal or not),
    ordinal (labels are ordered; the ranks between two count), interval (the difference of numbers).
    1 is perfect, 0 is chance; Krippendorff asks for .8, or .667 for tentative conclusions.
    None where there is nothing to compare: no unit has two labels, or all labels are the same.
    """
    coincidences = _coincidences(units)
    totals: defaultdict[Label, float] = defaultdict(float)
    for (label, _), count in coincidences.items():
        totals[label] += count
    n = sum(totals.values())
    apart = _differences(totals, level)
    expected = sum(totals[a] * totals[b] * apart[a, b] for a in totals for b in totals)
    if expected == 0:
        return None
    observed = sum(count * apart[pair] for pair, count in coincidences.items())
    return 1 - (n - 1) * observed / expected


def couples(units: Sequence[Unit]) -> list[Couple]:
    """Pair up annotators who share a unit, by name."""
    names = sorted({name for unit in units for name in unit})
    found = []
    for first, second in combinations(names, 2):
        shared = [(unit[first], unit[second]) for unit in units if first in unit and second in unit]
        if shared:
            rate = wilson(sum(a == b for a, b in shared), len(shared))
            kappa = cohens_kappa([a for a, _ in shared], [b for _, b in shared])
            found.append(Couple(first, second, len(shared), rate, kappa))
    return found


def disagreements(units: Sequence[Unit]) -> list[Disagreement]:
    """List the units on which any two annotators differ, the most disputed first."""
    found = []
    for index, unit in enumerate(units):
        pairs = list(combinations(unit.values(), 2))
        differ = sum(a != b for a, b in pairs)
        if differ:
            found.append(Disagreement(index, dict(unit), differ / len(pairs)))
    return sorted(found, key=lambda one: (-one.share, one.unit))


def _coincidences(units: Sequence[Unit]) -> dict[tuple[Label, Label], float]:
    """Count for each two values how often they stand together in a unit of m labels, every ordered pair as 1 / (m -
    1)."""
    found: defaultdict[tuple[Label, Label], float] = defaultdict(float)
    for unit in units:
        labels = list(unit.values())
        for i, a in enumerate(labels):
            for j, b in enumerate(labels):
                if i != j:
                    found[a, b] += 1 / (len(labels) - 1)
    return found


def _differences(totals: Mapping[Label, float], level: Level) -> dict[tuple[Label, Label], float]:
    """Square the difference of each two values (Krippendorff 2011, section D)."""
    if level == "nominal":
        return {(a, b): float(a != b) for a in totals for b in totals}
    values = sorted(totals)  # labels of one level are all numbers, or all text
    if level == "interval":
        return {(a, b): float(a - b) ** 2 for a in values for b in values}  # type: ignore[operator] # of numbers
    found = {}
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            low, high = sorted((i, j))
            between = sum(totals[value] for value in values[low : high + 1])
            found[a, b] = (between - (totals[a] + totals[b]) / 2) ** 2
    return found
