"""What the curves of `studies.active_learning` say: labels needed on the steep part, differences, a table, a figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.core.stats import mean_interval

Curves = Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
BASELINE, GOAL = "random", 1.5
CHANCE = 0.5


def needed(budgets: Sequence[int], accuracy: Sequence[float], target: float) -> float:
    """Find where a curve first reaches `target`, between two budgets by their logarithms; the last budget where it
    never does."""
    for at in range(len(budgets)):
        if accuracy[at] >= target:
            if at == 0:
                return float(budgets[0])
            share = (target - accuracy[at - 1]) / (accuracy[at] - accuracy[at - 1])
            return float(budgets[at - 1] * (budgets[at] / budgets[at - 1]) ** share)
    return float(budgets[-1])


def summary(curves: Curves, budgets: Sequence[int]) -> dict[str, Any]:
    """Compare each strategy with random, seed by seed.

    Target: midway between chance and the seed's own plateau, the accuracy with all labels bought. `ratio`: labels that
    random needs for it over those of the strategy, the geometric mean over seeds with Student's t interval. `worst`:
    of all budgets the one with the lowest upper end of the difference to random; intervals are simultaneous over
    budgets and strategies (Bonferroni).
    """
    kind, found = "accuracy", {}
    plateaus = [own[kind][-1] for own in curves[BASELINE]]
    targets = [(CHANCE + plateau) / 2 for plateau in plateaus]
    labels = {
        name: [needed(budgets, own[kind], target) for own, target in zip(all_, targets, strict=True)]
        for name, all_ in curves.items()
    }
    compared = (len(curves) - 1) * (len(budgets) - 1)
    for name, all_ in curves.items():
        own: dict[str, Any] = mean_interval(labels[name]).named("labels")
        if name != BASELINE:
            logs = [math.log(a / b) for a, b in zip(labels[BASELINE], labels[name], strict=True)]
            own |= {
                key: None if value is None else math.exp(value)
                for key, value in mean_interval(logs).named("ratio").items()
            }
            ends = []
            for at in range(len(budgets) - 1):
                differences = [a[kind][at] - b[kind][at] for a, b in zip(all_, curves[BASELINE], strict=True)]
                ends.append(
                    mean_interval(differences, 1 - 0.05 / compared).named("difference") | {"budget": budgets[at]}
                )
            own["worst"] = min(
                ends, key=lambda one: one["difference_high"] if one["difference_high"] is not None else 0.0
            )
            own["best"] = max(ends, key=lambda one: one["difference_low"] if one["difference_low"] is not None else 0.0)
        found[name] = own
    return {
        "plateau": mean_interval(plateaus).named("plateau"),
        "target": mean_interval(targets).mean,
        "strategies": found,
    }


def table(found: Mapping[str, Any]) -> str:
    """Render what each strategy needs, and its accuracy at some budgets."""
    budgets = found["budgets"]
    shown = [at for at, budget in enumerate(budgets) if budget in (8, 16, 32, 64, 128, 256, 512, 1024)]
    head = ["strategy", "labels for half of the way", "random's labels / its", "worst budget: difference to random"]
    rows = ["| " + " | ".join([*head, *(f"{budgets[at]}" for at in shown)]) + " |", "|---" * (4 + len(shown)) + "|"]
    for name, own in found["strategies"].items():
        cells = [name, _span(own, "labels", 0), "–", "–"]
        if "worst" in own:
            points = {key: None if value is None else 100 * value for key, value in own["worst"].items()}
            cells[2:] = [_span(own, "ratio", 2), f"{_span(points, 'difference', 1)} points at {own['worst']['budget']}"]
        means = [mean_interval([one["accuracy"][at] for one in found["curves"][name]]).mean for at in shown]
        rows.append("| " + " | ".join([*cells, *(f"{mean:.3f}" for mean in means)]) + " |")
    return "\n".join(rows) + "\n"


def draw(path: Path, found: Mapping[str, Any]) -> None:
    """Draw mean accuracy over labels bought, a line a strategy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    styles = {"random": ("o", "-"), "margin": ("s", "--"), "ensemble": ("^", ":"), "d_optimal": ("d", "-.")}
    for name, all_ in found["curves"].items():
        means = [mean_interval([one["accuracy"][at] for one in all_]) for at in range(len(found["budgets"]) - 1)]
        marker, style = styles[name]
        axis.plot(
            found["budgets"][:-1], [one.mean for one in means], marker=marker, linestyle=style, color="black",
            markerfacecolor="white", label=name,
        )  # fmt: skip
    for height, said in ((found["target"], "midway"), (found["plateau"]["plateau"], "all labels")):
        axis.axhline(height, linewidth=0.8, color="grey")
        axis.annotate(said, (found["budgets"][0], height), va="bottom", color="grey")
    axis.set(xscale="log", xlabel="labels bought", ylabel="accuracy on held-out pairs")
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _span(own: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = own[f"{name}_low"], own[f"{name}_high"]
    return f"{own[name]:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None else "")
