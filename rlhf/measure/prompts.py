"""Choose the prompts that policies are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.core.seeding import rng
from rlhf.measure.panel import Panel
from rlhf.models.reward.scoring import prompts_that_fit

SPLIT_PROMPTS = "held-out"  # the set of evaluate.split's prompts; it names random streams, so it keeps its word
OOD_PROMPTS = "ood"  # the set of out-of-distribution prompts


@dataclass(frozen=True, slots=True)
class Prompts:
    """The chosen prompts of a set, and how many of the set leave no room for a response."""

    chosen: list[str]
    too_long: int


def choose_fitting(panel: Panel, prompts: Sequence[str], count: int, name: str) -> Prompts:
    """Choose at most `count` of the prompts of set `name` that leave room for a response; none of no prompts.

    Raises:
        UserError: no prompt leaves room.
    """
    if not prompts or not count:
        return Prompts([], 0)
    fit = prompts_that_fit(panel.backbone, prompts, panel.params.response_tokens)
    return Prompts(choose(fit, count, panel.seed, name), len(prompts) - len(fit))


def choose(prompts: list[str], count: int, seed: int, name: str) -> list[str]:
    """Draw at most `count` prompts of set `name`; the same for every policy and every setting of training."""
    return rng(seed, "evaluate", "prompts", name).sample(prompts, min(count, len(prompts)))
