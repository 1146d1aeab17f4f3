"""Load what a policy's responses are measured with: the reward models, the gold reward and the SFT policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import read_json
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.measure.params import MeasureParams
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.checks import load_conforming
from rlhf.models.reward.scoring import ADAPTER, Scorer, load_referee, load_reward, read_under, reward_adapters
from rlhf.synthetic.gold import gold_reward

Gold = Callable[[str, str, bool], float]  # prompt, response, ended -> true reward


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that measures responses, on one backbone, which holds the policies as well."""

    scorer: Scorer
    gold: Gold | None
    referee: Scorer | None  # the second reward model, which PPO was not trained on
    params: MeasureParams
    seed: int

    @property
    def backbone(self) -> Backbone:
        """The backbone under all policies and reward models."""
        return self.scorer.backbone


def load_panel(at: Layout, policies: Mapping[str, Path], params: MeasureParams, runtime: Runtime) -> Panel:
    """Load the reward models, and on one backbone the SFT policy and the adapters of `policies`, by name.

    Raises:
        UserError: an artifact is missing, a reward model is of another backbone, or the engine does not compute the
            model's own probabilities under one of the adapters.
    """
    reward = load_reward(at.reward, base=at.base, sft=at.sft)
    referee = load_referee(at.referee, base=at.base, sft=at.sft)
    adapters = reward_adapters(at.reward, sft=at.sft)
    backbone = load_conforming(at.base, {**adapters, **policies}, dtype=runtime.dtype, device=runtime.device)
    scorer = Scorer(backbone, reward.to(runtime.device), read_under(adapters), {})
    second = Scorer(backbone, referee.to(runtime.device), ADAPTER, {}) if referee else None
    return Panel(scorer, known_gold(at.pairs), second, params, runtime.seed)


def known_gold(pairs: Path) -> Gold | None:
    """Return the gold reward of the task, or None where task.json does not say that there is one."""
    if read_json(pairs / "task.json").get("gold") != "synthetic":
        return None
    return lambda prompt, response, ended: gold_reward(prompt, response, ended=ended)
