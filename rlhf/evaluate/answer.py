"""Putting the same prompts, with the same random numbers, to every policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlhf.core.progress import track
from rlhf.evaluate.drift import exact_kl, sampled_drift
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.record import Answers
from rlhf.models.sampling import Sample, sample_texts
from rlhf.models.scoring import ADAPTER, Scorer

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
    found = {}
    with track(len(POLICIES), f"evaluate {name}", unit="policy") as bar:
        for policy, adapter in POLICIES.items():
            bar.set_postfix_str(policy)
            found[policy] = _answers(panel, prompts, name, adapter)
            bar.update()
    return found


def _answers(panel: Panel, prompts: Sequence[str], name: str, adapter: str | None) -> Answers:
    params, backbone = panel.params, panel.scorer.backbone
    samples = sample_texts(
        backbone,
        prompts,
        adapter=adapter,
        max_new_tokens=params.response_tokens,
        temperature=params.temperature,
        seed_place=(panel.seed, "evaluate", name),
        batch_size=params.batch_size,
    )
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
