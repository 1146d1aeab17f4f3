"""What the curves of `studies.active_learning` say: labels needed on the steep part, differences, a table, a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlhf.core.seeding import numpy_rng
from rlhf.core.stats import Interval, mean_interval

Curves = Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
Array = NDArray[np.int64]
BASELINE, CHANCE, RESAMPLES = "random", 0.5, 2000


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
    """Compare each strategy with random.

    Target: midway between chance and the plateau, the mean accuracy with all labels bought. `labels`: what a strategy
    needs for it on its mean curve; `ratio`: what random needs over that. Both by the mean over seeds, since a single
    seed's curve is noisier than the steps that are looked for; intervals are percentile bootstraps over seeds. `gold`:
    the same ratio by agreement with gold. `worst`: of all budgets after the first the one with the lowest upper end of
    the difference to random; intervals are simultaneous over budgets and strategies (Bonferroni, Student's t).
    """
    plateau = mean_interval([own["accuracy"][-1] for own in curves[BASELINE]])
    found: dict[str, Any] = {}
    for name in curves:
        found[name] = _needs(curves, name, budgets, "accuracy")
        if name != BASELINE:
            found[name] |= {f"gold_{key}": value for key, value in _needs(curves, name, budgets, "gold").items()}
            found[name]["worst"] = _worst(curves, name, budgets)
    return {**plateau.named("plateau"), "target": (CHANCE + plateau.mean) / 2, "strategies": found}


def _needs(curves: Curves, name: str, budgets: Sequence[int], kind: str) -> dict[str, Any]:
    """Compute labels and ratio on the mean curves, with their intervals over seeds."""
    rows = {one: np.array([own[kind] for own in curves[one]]) for one in (BASELINE, name)}
    seeds = len(rows[name])
    draws = numpy_rng(0, "active learning", "bootstrap").integers(0, seeds, (RESAMPLES, seeds))

    def both(of: Array) -> tuple[float, float]:
        means = {one: values[of].mean(axis=0) for one, values in rows.items()}
        target = (CHANCE + float(means[BASELINE][-1])) / 2
        own, other = (needed(budgets, means[one].tolist(), target) for one in (name, BASELINE))
        return own, other / own

    labels, ratio = both(np.arange(seeds))
    drawn = np.array([both(of) for of in draws])
    (labels_low, ratio_low), (labels_high, ratio_high) = np.quantile(drawn, [0.025, 0.975], axis=0).tolist()
    found: dict[str, Any] = Interval(labels, labels_low, labels_high).named("labels")
    return found | (Interval(ratio, ratio_low, ratio_high).named("ratio") if name != BASELINE else {})


def _worst(curves: Curves, name: str, budgets: Sequence[int]) -> dict[str, Any]:
    places = range(1, len(budgets) - 1)  # all begin with the same pairs, and end with all
    compared = (len(curves) - 1) * len(places)
    ends = []
    for at in places:
        differences = [
            own["accuracy"][at] - other["accuracy"][at]
            for own, other in zip(curves[name], curves[BASELINE], strict=True)
        ]
        ends.append(mean_interval(differences, 1 - 0.05 / compared).named("difference") | {"budget": budgets[at]})
    return min(ends, key=lambda one: one["difference"] if one["difference_high"] is None else one["difference_high"])


def table(found: Mapping[str, Any]) -> str:
    """Render what each strategy needs, and its accuracy at some budgets."""
    budgets = found["budgets"]
    shown = [at for at, budget in enumerate(budgets) if budget in (8, 16, 32, 64, 128, 256, 512, 1024)]
    head = [
        "strategy",
        "labels for half of the way",
        "random's / its",
        "the same by gold",
        "worst difference to random",
    ]
    rows = ["| " + " | ".join([*head, *(f"{budgets[at]}" for at in shown)]) + " |", "|---" * (5 + len(shown)) + "|"]
    for name, own in found["strategies"].items():
        cells = [name, _span(own, "labels", 0), "–", "–", "–"]
        if "worst" in own:
            points = {key: None if value is None else 100 * value for key, value in own["worst"].items()}
            cells[2:4] = [_span(own, "ratio", 2), _span(own, "gold_ratio", 2)]
            cells[4] = f"{_span(points, 'difference', 1)} points at {own['worst']['budget']}"
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
    for height, said in ((found["target"], "midway"), (found["plateau"], "all labels")):
        axis.axhline(height, linewidth=0.8, color="grey")
        axis.annotate(said, (found["budgets"][0], height), va="bottom", color="grey")
    axis.set(xscale="log", xlabel="labels bought", ylabel="accuracy on held-out pairs")
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _span(own: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = own[f"{name}_low"], own[f"{name}_high"]
    return f"{own[name]:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if low is not None else "")
