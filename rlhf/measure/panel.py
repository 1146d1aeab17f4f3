"""Load what a policy's responses are measured with: the reward models, the gold reward and the SFT policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rlhf.core.artifacts import read_json
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.measure.function_scorer import FunctionScorer, start
from rlhf.measure.functions import REWARD_MODELS, Functions
from rlhf.measure.params import MeasureParams
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.checks import load_conforming
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.referee import load_referee, scorer_of
from rlhf.models.reward.scoring import Scorer, load_reward, read_under, reward_adapters
from rlhf.synthetic.gold import gold_reward

Gold = Callable[[str, str, bool], float]  # prompt, response, ended -> true reward


@runtime_checkable
class SampleScorer(Protocol):
    """Gives each sample one number, higher is better."""

    def score_samples(self, samples: Sequence[Sample], *, batch_tokens: int) -> list[float]:
        """Score samples, in their order; at most `batch_tokens` tokens go through a model at once."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that measures responses, and the backbone that holds the policies."""

    backbone: Backbone  # under all policies and reward models
    scorer: SampleScorer  # what PPO was trained on: the reward model, or a function
    gold: Gold | None
    referee: SampleScorer | None  # what PPO was not trained on: the second reward model, or a second function
    params: MeasureParams
    seed: int

    def close(self) -> None:
        """End the processes of functions."""
        for scorer in (self.scorer, self.referee):
            if isinstance(scorer, FunctionScorer):
                scorer.close()


def load_panel(
    at: Layout,
    policies: Mapping[str, Path],
    params: MeasureParams,
    runtime: Runtime,
    functions: Functions = REWARD_MODELS,
) -> Panel:
    """Start the functions that judge, load the reward models, and on one backbone the SFT policy and the adapters of
    `policies`, by name. A function takes the place of the reward model of its role.

    Raises:
        UserError: an artifact is missing, a reward model is of another backbone or encoder, a function is not had, or
            the engine does not compute the model's own probabilities under one of the adapters.
    """
    own = start(functions.reward) if functions.reward else None
    other = start(functions.referee) if functions.referee else None
    reward = load_reward(at.reward, base=at.base, sft=at.sft)
    referee = load_referee(at.referee, base=at.base, sft=at.sft)
    adapters = reward_adapters(at.reward, sft=at.sft)
    backbone = load_conforming(at.base, {**adapters, **policies}, dtype=runtime.dtype, device=runtime.device)
    scorer = Scorer(backbone, reward.to(runtime.device), read_under(adapters), {})
    second = scorer_of(referee, backbone, known={}) if referee else None
    return Panel(backbone, own or scorer, known_gold(at.pairs), other or second, params, runtime.seed)


def known_gold(pairs: Path) -> Gold | None:
    """Return the gold reward of the task, or None where task.json does not say that there is one."""
    if read_json(pairs / "task.json").get("gold") != "synthetic":
        return None
    return lambda prompt, response, ended: gold_reward(prompt, response, ended=ended)
