"""Putting the same prompts, with the same random numbers, to every policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlhf.core.artifacts import read_json
from rlhf.core.layout import Layout
from rlhf.core.progress import track
from rlhf.core.runtime import Runtime
from rlhf.measure.drift import exact_kl, sampled_drift
from rlhf.measure.params import MeasureParams
from rlhf.measure.prompts import choose
from rlhf.measure.responses import Answers
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, Stream, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.scoring import (
    ADAPTER,
    Scorer,
    load_referee,
    load_reward,
    prompts_that_fit,
    read_under,
    reward_adapters,
)
from rlhf.synthetic.gold import gold_reward

T = TypeVar("T")
Gold = Callable[[str, str, bool], float]  # prompt, response, ended -> true reward

POLICIES: Mapping[str, str | None] = {"base": None, "sft": ADAPTER, "ppo": "policy"}  # name -> adapter


@dataclass(frozen=True, slots=True)
class Panel:
    """What answers are measured with."""

    scorer: Scorer
    gold: Gold | None
    referee: Scorer | None  # the second reward model, which PPO never earned from
    params: MeasureParams
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


def sampled(panel: Panel, prompts: Sequence[str], adapter: str | None, stream: Stream) -> list[Sample]:
    """One response a prompt, with the random numbers of `stream`."""
    return sample_texts(
        panel.scorer.backbone,
        prompts,
        Sampling(panel.params.response_tokens, panel.params.temperature),
        adapter=adapter,
        stream=stream,
        batch_size=panel.params.batch_size,
    )


def measured(panel: Panel, samples: Sequence[Sample], adapter: str | None) -> Answers:
    """Everything that is measured on a policy's responses."""
    params, backbone = panel.params, panel.scorer.backbone
    rewards = panel.scorer.score_samples(samples, batch_tokens=params.batch_tokens)
    referees = tuple(panel.referee.score_samples(samples, batch_tokens=params.batch_tokens)) if panel.referee else None
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
    return Answers(tuple(samples), tuple(rewards), golds, referees, drift, exact)


def _golds(gold: Gold | None, samples: Sequence[Sample]) -> tuple[float, ...] | None:
    if gold is None:
        return None
    return tuple(gold(sample.prompt, sample.response, sample.ended) for sample in samples)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts to ask, and how many there were that leave no room for a response (they are not asked)."""

    asked: list[str]
    too_long: int


def load_panel(at: Layout, policies: Mapping[str, Path], params: MeasureParams, runtime: Runtime) -> Panel:
    """The reward models, and on one backbone the SFT policy and the adapters of `policies`, by name.

    Raises:
        UserError: an artifact is missing, or a reward model is of another backbone.
    """
    reward = load_reward(at.reward, base=at.base, sft=at.sft)
    referee = load_referee(at.referee, base=at.base, sft=at.sft)
    adapters = reward_adapters(at.reward, sft=at.sft)
    backbone = Backbone.load(at.base, {**adapters, **policies}, dtype=runtime.dtype, device=runtime.device)
    scorer = Scorer(backbone, reward.to(runtime.device), read_under(adapters))
    second = Scorer(backbone, referee.to(runtime.device), ADAPTER) if referee else None
    return Panel(scorer, known_gold(at.pairs), second, params, runtime.seed)


def known_gold(pairs: Path) -> Gold | None:
    """The gold reward of the task, where task.json says that there is one."""
    if read_json(pairs / "task.json").get("gold") != "synthetic":
        return None
    return lambda prompt, response, ended: gold_reward(prompt, response, ended=ended)


def fitting(panel: Panel, prompts: Sequence[str], count: int, name: str) -> Prompts:
    """At most `count` of the prompts that leave room for a response; none are asked for where there are none."""
    if not prompts or not count:
        return Prompts([], 0)
    fit = prompts_that_fit(panel.scorer.backbone, prompts, panel.params.response_tokens)
    return Prompts(choose(fit, count, panel.seed, name), len(prompts) - len(fit))
