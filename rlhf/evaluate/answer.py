"""Putting the same prompts, with the same random numbers, to every policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rlhf.core.progress import track
from rlhf.evaluate.drift import exact_kl, sampled_drift
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.record import Answers
from rlhf.models.sampling import Place, Sample, sample_texts
from rlhf.models.scoring import ADAPTER, Scorer

T = TypeVar("T")
Gold = Callable[[str, str, bool], float]  # prompt, response, ended -> true reward

POLICIES: Mapping[str, str | None] = {"base": None, "sft": ADAPTER, "ppo": "policy"}  # name -> adapter


@dataclass(frozen=True, slots=True)
class Panel:
    """What answers are measured with."""

    scorer: Scorer
    gold: Gold | None
    heldout: Scorer | None  # the second reward model, which PPO never earned from
    params: EvaluateParams
    seed: int


def ask(panel: Panel, prompts: Sequence[str], name: str) -> dict[str, Answers]:
    """The answers of base, SFT and PPO to prompt set `name`.

    All policies draw with the same uniform numbers, so that equal policies give equal answers and differences between
    policies are not hidden by luck (common random numbers).
    """
    return of_each(name, lambda adapter: answered(panel, prompts, name, adapter))


def said(panel: Panel, prompts: Sequence[str], name: str) -> dict[str, list[Sample]]:
    """The same responses, unmeasured."""
    return of_each(name, lambda adapter: sampled(panel, prompts, adapter, (panel.seed, "evaluate", name)))


def of_each(name: str, of: Callable[[str | None], T]) -> dict[str, T]:
    """What `of` gives for each policy's adapter, with a bar of progress."""
    found = {}
    with track(len(POLICIES), f"evaluate {name}", unit="policy") as bar:
        for policy, adapter in POLICIES.items():
            bar.set_postfix_str(policy)
            found[policy] = of(adapter)
            bar.update()
    return found


def answered(panel: Panel, prompts: Sequence[str], name: str, adapter: str | None) -> Answers:
    """The answers of one policy to prompt set `name`."""
    return measured(panel, sampled(panel, prompts, adapter, (panel.seed, "evaluate", name)), adapter)


def sampled(panel: Panel, prompts: Sequence[str], adapter: str | None, place: Place) -> list[Sample]:
    """One response a prompt, with the random numbers of `place`."""
    return sample_texts(
        panel.scorer.backbone,
        prompts,
        adapter=adapter,
        max_new_tokens=panel.params.response_tokens,
        temperature=panel.params.temperature,
        seed_place=place,
        batch_size=panel.params.batch_size,
    )


def measured(panel: Panel, samples: Sequence[Sample], adapter: str | None) -> Answers:
    """Everything that is measured on a policy's responses."""
    params, backbone = panel.params, panel.scorer.backbone
    rewards = panel.scorer.score_samples(samples, batch_tokens=params.batch_tokens)
    heldouts = tuple(panel.heldout.score_samples(samples, batch_tokens=params.batch_tokens)) if panel.heldout else None
    golds = _golds(panel.gold, samples)
    drift = sampled_drift(
        backbone,
        samples,
        adapter=adapter,
        reference=ADAPTER,
        temperature=params.temperature,
        batch_tokens=params.batch_tokens,
    )
    exact = exact_kl(
        backbone,
        samples[: params.exact_kl_prompts],
        adapter=adapter,
        reference=ADAPTER,
        temperature=params.temperature,
        batch_tokens=params.batch_tokens,
    )
    return Answers(tuple(samples), tuple(rewards), golds, heldouts, drift, exact)


def _golds(gold: Gold | None, samples: Sequence[Sample]) -> tuple[float, ...] | None:
    if gold is None:
        return None
    return tuple(gold(sample.prompt, sample.response, sample.ended) for sample in samples)
