"""Peak and fall of a judge's curve over the distance from the SFT policy, told apart from noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 6  # points: fewer show no peak
WINDOW = 5  # parts of the curve; a peak is as wide as one of them


@dataclass(frozen=True, slots=True)
class Fall:
    """How a judge's mean reward ends against its peak. Each height is a mean over a window of iterations."""

    peak: float
    peak_at: float  # sqrt(nats)
    end: float
    lost: float  # of what was gained up to the peak, the share that is gone at the end; 1 = as bad as the start
    noise: float  # the fall in standard errors of the difference of two windows
    proxy_held: bool  # whether the reward model was as pleased at the end as at the peak, but for two standard errors


def fall(distances: Sequence[float], proxies: Sequence[float], judged: Sequence[float]) -> Fall | None:
    """The fall of `judged` (mean reward by an independent judge, one a point) behind its peak; None of too few points.

    Points are put in order of distance, as Gao, Schulman & Hilton 2022 (arXiv 2210.10760) plot them, and averaged over
    windows of a fifth of the curve, since the highest single point would mostly find noise. The noise of a point is
    taken from second differences, sqrt(mean(d^2) / 6) (Gasser, Sroka & Jennen-Steinmetz 1986), which a trend hardly
    touches.

    Raises:
        ValueError: the sequences are of different lengths.
    """
    points = sorted(zip(distances, proxies, judged, strict=True))
    if len(points) < LEAST:
        return None
    width = max(2, round(len(points) / WINDOW))
    places = range(len(points) - width + 1)

    def means(column: int) -> list[float]:
        return [math.fsum(point[column] for point in points[k : k + width]) / width for k in places]

    at, proxy, heights = means(0), means(1), means(2)
    top = max(places, key=heights.__getitem__)
    error, proxy_error = (_noise([point[column] for point in points]) * math.sqrt(2 / width) for column in (2, 1))
    dropped, rise = heights[top] - heights[-1], heights[top] - heights[0]
    return Fall(
        peak=heights[top],
        peak_at=at[top],
        end=heights[-1],
        lost=dropped / max(rise, error) if dropped > 0 else 0.0,
        noise=dropped / error if error > 0 else 0.0,
        proxy_held=proxy[-1] >= proxy[top] - 2 * proxy_error,
    )


def _noise(values: Sequence[float]) -> float:
    """Standard deviation of a single value about a trend that is straight over three of them."""
    bends = [
        (before - 2 * here + after) ** 2 for before, here, after in zip(values, values[1:], values[2:], strict=False)
    ]
    return math.sqrt(math.fsum(bends) / len(bends) / 6)
