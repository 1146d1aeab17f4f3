"""Combine several reward heads into one score, which their disagreement may lower."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Aggregate = Literal["mean", "worst", "uncertainty"]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """How many heads there are, and how their raw scores become one (Coste et al. 2023, arXiv 2310.02743, section 3.2).

    "mean": their mean (eq. 1). "worst": the lowest (worst-case optimisation). "uncertainty": mean - weight * variance
    over the heads, the variance divided by K (uncertainty-weighted optimisation). The last two make a policy pay for
    going where the heads disagree.
    """

    members: int
    aggregate: Aggregate
    uncertainty_weight: float

    def combine(self, scores: Float[Tensor, "*N K"]) -> Float[Tensor, "*N"]:
        """Combine the raw scores of K heads into one, in the same units."""
        if self.aggregate == "worst":
            return scores.amin(-1)
        mean = scores.mean(-1)
        if self.aggregate == "mean":
            return mean
        return mean - self.uncertainty_weight * scores.var(-1, correction=0)


SINGLE = Ensemble(1, "mean", 0.0)
