"""Sample every policy on the same prompts with the same random numbers, and measure the responses.

Equal policies then give equal responses, and differences between policies are not hidden by luck (common random
numbers).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rlhf.core.progress import track
from rlhf.measure.drift import exact_kl, sampled_drift
from rlhf.measure.panel import Gold, Panel
from rlhf.measure.responses import Responses
from rlhf.models.policy.sampling import Sample, Stream, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.scoring import ADAPTER

T = TypeVar("T")

POLICIES: Mapping[str, str | None] = {"base": None, "sft": ADAPTER, "ppo": "policy"}  # name -> adapter


def for_each_policy(name: str, of: Callable[[str | None], T]) -> dict[str, T]:
    """Call `of` with the adapter of base, SFT and PPO; a progress bar called `name` shows how far it is."""
    found = {}
    with track(len(POLICIES), f"evaluate {name}", unit="policy") as bar:
        for policy, adapter in POLICIES.items():
            bar.set_postfix_str(policy)
            found[policy] = of(adapter)
            bar.update()
    return found


def measure_policies(panel: Panel, prompts: Sequence[str], name: str) -> dict[str, Responses]:
    """Sample and measure base, SFT and PPO on prompt set `name`."""
    return for_each_policy(name, lambda adapter: measure_policy(panel, prompts, name, adapter))


def sample_policies(panel: Panel, prompts: Sequence[str], name: str) -> dict[str, list[Sample]]:
    """Sample base, SFT and PPO on prompt set `name`, without measuring."""
    return for_each_policy(name, lambda adapter: sample_policy(panel, prompts, adapter, (panel.seed, "evaluate", name)))


def measure_policy(panel: Panel, prompts: Sequence[str], name: str, adapter: str | None) -> Responses:
    """Sample and measure one policy on prompt set `name`."""
    samples = sample_policy(panel, prompts, adapter, (panel.seed, "evaluate", name))
    return measure_samples(panel, samples, adapter)


def sample_policy(panel: Panel, prompts: Sequence[str], adapter: str | None, stream: Stream) -> list[Sample]:
    """Sample one response a prompt, with the random numbers of `stream`."""
    return sample_texts(
        panel.backbone,
        prompts,
        Sampling(panel.params.response_tokens, panel.params.temperature),
        adapter=adapter,
        stream=stream,
        batch_size=panel.params.batch_size,
    )


def measure_samples(panel: Panel, samples: Sequence[Sample], adapter: str | None) -> Responses:
    """Score a policy's samples by every scorer there is, and measure how far they have drifted from SFT."""
    params = panel.params
    rewards = panel.scorer.score_samples(samples, batch_tokens=params.batch_tokens)
    referees = tuple(panel.referee.score_samples(samples, batch_tokens=params.batch_tokens)) if panel.referee else None
    drift = sampled_drift(
        panel.backbone,
        samples,
        adapter=adapter,
        reference=ADAPTER,
        temperature=params.temperature,
        batch_tokens=params.batch_tokens,
    )
    exact = exact_kl(
        panel.backbone,
        samples[: params.exact_kl_prompts],
        adapter=adapter,
        reference=ADAPTER,
        temperature=params.temperature,
        batch_tokens=params.batch_tokens,
    )
    return Responses(tuple(samples), tuple(rewards), _golds(panel.gold, samples), referees, drift, exact)


def _golds(gold: Gold | None, samples: Sequence[Sample]) -> tuple[float, ...] | None:
    if gold is None:
        return None
    return tuple(gold(sample.prompt, sample.response, sample.ended) for sample in samples)
