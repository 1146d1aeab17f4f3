"""Draw figures as SVG: equal data give equal bytes, and colours follow the page's light or dark scheme.

Marks and dashes differ as well, for print and for the colour-blind. Letters stay legible at a phone's width.
"""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from rlhf.report.content import Figure

# Okabe and Ito's hues (jfly.uni-koeln.de/color), which the colour-blind tell apart, darkened to 3:1 against white.
STYLES = (
    ("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#008562", "-.", "^"), ("#000000", ":", "D"), ("#b8568c", "-", "v"),
    ("#b57700", "--", "P"), ("#2f8fcc", "-.", "X"),
)  # fmt: skip
INK, GRID, RULE = "#000000", "#e0e0e0", "#666666"
# The page's style sheet sets these properties for the dark scheme; elsewhere the colour itself holds.
PROPERTIES = {color: f"--series-{k}" for k, (color, _, _) in enumerate(STYLES, 1)}
PROPERTIES |= {INK: "--ink", GRID: "--grid", RULE: "--rule"}
SIZE = (5.4, 3.3)  # inches: at a phone's width the letters stay above 9 pixels
SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "rlhf", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "legend.frameon": False, "legend.fontsize": 9, "lines.markersize": 4, "axes.axisbelow": True,
    "savefig.transparent": True,
}  # fmt: skip
X_LETTERS = 64  # of a label across the whole figure
LEGEND_LETTERS = {3: 52, 2: 60}  # in a row of so many columns
MARKS = 12  # at most so many marks on a line
WINDOW = 5  # a trend is a running mean over a fifth of the points


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of points.

    `low` and `high` are the ends of intervals, where they are known; `trend` draws a running mean along x.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    joined: bool = True
    trend: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """A figure's name, its axes with units, and its caption."""

    name: str
    x: str
    y: str
    caption: str


def lines(series: Sequence[Series], labels: Labels, *, diagonal: bool = False) -> Figure:
    """Draw curves (or, not joined, points) with bands or bars where intervals are known."""

    def draw() -> str:
        with _canvas() as (figure, axes):
            if diagonal:
                axes.plot([0.5, 1], [0.5, 1], color=RULE, linestyle=":", label="perfect")
            for one, style in zip(series, cycle(STYLES), strict=False):
                _plot(axes, one, *style)
            axes.set(xlabel=labels.x, ylabel=labels.y)
            if all(float(x).is_integer() for one in series for x in one.x):  # iterations, steps
                axes.xaxis.get_major_locator().set_params(integer=True)
            if len(series) > 1 or diagonal:
                _legend(figure, axes)
            return _inline(figure, labels.name)

    return Figure(labels.name, draw, labels.caption, _alt(labels, "; ".join(_told(one) for one in series)))


def _plot(axes: Any, one: Series, color: str, line: str, mark: str) -> None:
    if one.joined:
        every = list(range(0, len(one.x), max(1, len(one.x) // MARKS)))
        axes.plot(one.x, one.y, color=color, linestyle=line, marker=mark, markevery=every, label=one.label)
        if one.low is not None and one.high is not None:
            axes.fill_between(one.x, one.low, one.high, color=color, alpha=0.18, linewidth=0)
        return
    alpha, label = (0.5, None) if one.trend else (1.0, one.label)
    axes.plot(one.x, one.y, color=color, linestyle="none", marker=mark, alpha=alpha, label=label)
    if one.low is not None and one.high is not None:
        axes.vlines(one.x, one.low, one.high, color=color)
    if one.trend:
        x, y = running_mean(one.x, one.y)
        axes.plot(x, y, color=color, linestyle=line, linewidth=2, marker=mark, markevery=[-1], label=one.label)


def running_mean(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Order points by x and average both coordinates over overlapping windows of a fifth of them, at least two."""
    points = sorted(zip(x, y, strict=True))
    width = min(len(points), max(2, round(len(points) / WINDOW)))
    starts = range(len(points) - width, -1, -max(1, width // 2))  # overlapping by half, the last one complete
    windows = [points[k : k + width] for k in reversed(starts)]
    return [sum(p[0] for p in w) / width for w in windows], [sum(p[1] for p in w) / width for w in windows]


def ranges(rows: Sequence[str], series: Sequence[Series], labels: Labels, *, line: float | None = None) -> Figure:
    """Draw one mark a series in each row, with its interval. A series' x are values, its y are row numbers."""

    def draw() -> str:
        with _canvas(height=max(1.6, 0.75 + 0.34 * len(rows) * max(1, len(series) * 0.7))) as (figure, axes):
            if line is not None:
                axes.axvline(line, color=RULE, linestyle=":")
            for number, (one, (color, _, mark)) in enumerate(zip(series, cycle(STYLES), strict=False)):
                heights = [row + (number - (len(series) - 1) / 2) * 0.22 for row in one.y]
                axes.plot(one.x, heights, color=color, linestyle="none", marker=mark, markersize=6, label=one.label)
                if one.low is not None and one.high is not None:
                    axes.hlines(heights, one.low, one.high, color=color)
            axes.set_yticks(range(len(rows)), rows)
            axes.set_ylim(len(rows) - 0.4, -0.6)
            room = X_LETTERS - max(map(len, rows), default=0)  # beside the names of the rows
            axes.set(xlabel=textwrap.fill(labels.x, max(20, room)), ylabel=labels.y)
            if len(series) > 1:
                _legend(figure, axes)
            return _inline(figure, labels.name)

    told = [f"{rows[round(y)]} {one.label} {x:.3g}" for one in series for x, y in zip(one.x, one.y, strict=True)]
    return Figure(labels.name, draw, labels.caption, _alt(labels, "; ".join(told)))


def bars(rows: Sequence[str], values: Sequence[float], labels: Labels) -> Figure:
    """Draw horizontal bars with their values behind them."""

    def draw() -> str:
        with _canvas(height=max(1.6, 0.8 + 0.3 * len(rows))) as (figure, axes):
            drawn = axes.barh(range(len(rows)), values, color=STYLES[6][0], edgecolor=INK, linewidth=0.7)
            axes.bar_label(drawn, [f"{value:.3g}" for value in values], padding=3, fontsize=9)
            axes.set_yticks(range(len(rows)), rows)
            axes.set_xlim(0, 1.15 * max(values) or 1)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
            axes.set(xlabel=labels.x, ylabel=labels.y)
            return _inline(figure, labels.name)

    told = "; ".join(f"{row} {value:.3g}" for row, value in zip(rows, values, strict=True))
    return Figure(labels.name, draw, labels.caption, _alt(labels, told))


class _canvas:  # noqa: N801 - reads as what it gives
    """Enter a figure and its axes under these settings alone, whatever matplotlib's configuration says."""

    def __init__(self, height: float = SIZE[1]) -> None:
        import matplotlib
        from matplotlib import figure as drawings
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        defaults: dict[Any, Any] = dict(matplotlib.rcParamsDefault)
        self._context = matplotlib.rc_context(defaults | SETTINGS | {"backend": "svg"})
        make: Any = drawings.Figure
        self._make: Callable[[], Any] = lambda: make(figsize=(SIZE[0], height), layout="constrained")
        self._canvas: Any = FigureCanvasSVG

    def __enter__(self) -> tuple[Any, Any]:
        self._context.__enter__()
        figure = self._make()
        self._canvas(figure)
        return figure, figure.add_subplot()

    def __exit__(self, *exception: object) -> None:
        self._context.__exit__(None, None, None)


def _legend(figure: Any, axes: Any) -> None:
    """Put the legend above the axes, in as many columns as there is room for."""
    labels = axes.get_legend_handles_labels()[1]
    columns = next((n for n in (3, 2) if sum(sorted(map(len, labels))[-n:]) <= LEGEND_LETTERS[n]), 1)
    figure.legend(loc="outside upper left", ncols=columns)


def _alt(labels: Labels, told: str) -> str:
    return f"{labels.y + ' over ' if labels.y else ''}{labels.x}. {told}"


def _inline(figure: Any, name: str) -> str:
    """Return the <svg> element alone, as wide as its parent, with ids that no other figure of the page has."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda match: f"var({PROPERTIES[match[0]]}, {match[0]})", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    return re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg).strip()


def _told(one: Series) -> str:
    """Tell a line in words: where it starts and where it ends."""
    if not one.x:
        return f"{one.label}: empty"
    points = sorted(zip(one.x, one.y, strict=True)) if one.trend else list(zip(one.x, one.y, strict=True))
    (x0, y0), (x1, y1) = points[0], points[-1]
    return f"{one.label}: {y0:.3g} at {x0:.3g}, {y1:.3g} at {x1:.3g}"


def columns(rows: Sequence[Mapping[str, float]], x: str, y: str) -> tuple[list[float], list[float]]:
    """Return two columns of a curve."""
    return [row[x] for row in rows], [row[y] for row in rows]
