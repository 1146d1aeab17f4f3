"""Take out of a score what it owes to the length of the response."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

CorrectionKind = Literal["none", "sqrt", "regression"]


@dataclass(frozen=True, slots=True)
class LengthCorrection:
    """How a raw score r of a response of L tokens (EOS included) is corrected.

    "none": r. "sqrt": r / sqrt(L), L at least 1; r is only defined up to a constant, and the head is fitted so that
    its mean over training responses is near 0 (exactly so with `reward.standardise`). "regression": r - slope · L -
    intercept, the residual of a least-squares line on L, so that over the responses of the fit the corrected score and
    L are uncorrelated.
    """

    kind: CorrectionKind
    slope: float = 0.0  # of a regression, raw reward per token
    intercept: float = 0.0

    def apply(self, scores: Float[Tensor, " B"], lengths: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Correct raw scores by lengths in tokens, in the scores' precision."""
        if self.kind == "none":
            return scores
        tokens = lengths.to(scores)
        if self.kind == "sqrt":
            return scores / tokens.clamp_min(1.0).pow(0.5)  # MKL's sqrt has last digits by processor
        return scores - self.slope * tokens - self.intercept

    def fitted(self, scores: Sequence[float], lengths: Sequence[float]) -> "LengthCorrection":
        """Fit the line of a regression to raw scores; other kinds stay as they are. Equal lengths give slope 0."""
        if self.kind != "regression":
            return self
        x, y = np.asarray(lengths, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        spread = float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
        return LengthCorrection("regression", slope, float(y.mean()) - slope * float(x.mean()))


UNCORRECTED = LengthCorrection("none")
