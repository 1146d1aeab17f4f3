"""Types that the two ways of training share: folders, and a model that is not on a scale yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rlhf.models.reward.scoring import Scorer

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders of the inputs, and of the reward model to come; the file of what the stage conformance decided.

    encoder: of the sentence encoder that the referee's head reads; None where it reads the SFT backbone.
    """

    pairs: Path
    base: Path
    sft: Path
    reward: Path
    conformance: Path
    encoder: Path | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that is not yet on a scale.

    scores: raw rewards (N, 2) of the pairs of each split whose response lengths it is given (`fit_frozen.raw_scores`).
    frozen: features of pairs under the SFT adapter, for the referee: of "referee", "validation" and "test" at least.
    """

    scorer: Scorer
    scores: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    frozen: Callable[[], dict[str, Tensor]]
    numbers: Mapping[str, object]  # metrics that the two ways of training do not share
