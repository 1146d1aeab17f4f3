"""The models that take part in PPO: one backbone with two adapters, a value head and a reward source."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from rlhf.core.artifacts import atomic_dir, save_tensors
from rlhf.core.errors import UserError
from rlhf.core.runtime import Runtime
from rlhf.models.fast.engine import Engine, load_checked
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, REWARD, read_under, reward_adapters
from rlhf.ppo.reward_sources import OwnPassSource, RewardModelSource, RewardSource
from rlhf.ppo.samplers.interface import NativeSampler, Sampler
from rlhf.ppo.value_head import ValueHead

POLICY, REFERENCE = "policy", ADAPTER  # adapter names on the shared backbone


@dataclass(frozen=True)
class Actors:
    """The models that take part. The base weights exist once.

    The policy is the adapter POLICY with the value head. The reference is the frozen adapter REFERENCE, under which the
    reward model reads the backbone too, unless it has an adapter of its own.
    """

    backbone: Backbone
    value_head: ValueHead
    source: RewardSource
    referee: RewardSource | None = None  # gives the validation scores, where the policy is chosen by them
    engine_elsewhere: Sampler | None = None  # samples in place of the backbone

    @property
    def sampler(self) -> Sampler:
        """Return what samples the responses: the backbone itself, unless an engine elsewhere does."""
        return self.engine_elsewhere or NativeSampler(self.backbone)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name exactly what PPO changes: the policy's LoRA weights ("policy/...") and the value head ("value/...")."""
        policy = self.backbone.parameters_of(POLICY)
        value = dict(self.value_head.named_parameters())
        return {f"policy/{name}": policy[name] for name in sorted(policy)} | {
            f"value/{name}": value[name] for name in sorted(value)
        }

    def save(self, folder: Path) -> None:
        """Write the policy adapter in peft form (never merged), the value head and the tokenizer, all or nothing."""
        with atomic_dir(folder) as temporary:
            self.backbone.save_adapter(POLICY, temporary)
            save_tensors(temporary / "value_head.safetensors", self.value_head.state_dict())
            self.backbone.tokenizer.save_pretrained(temporary)


def load_actors(
    *,
    base: Path,
    sft: Path,
    reward: Path,
    value_init: Literal["zero", "reward"],
    engine: Engine,
    conformance: Path,
    runtime: Runtime,
) -> Actors:
    """Load all of them. Policy and reference start equal, both from the adapter in `sft`.

    `value_init`: the value head starts at "zero" (lm-human-preferences) or as the "reward" model's head
    (`ValueHead.load_from_reward`). `engine`, `conformance`: as `load_checked`'s `engine` and `decided`.

    Raises:
        UserError: a folder is incomplete; the engine does not compute the model's numbers; the reward model is of
            another backbone; or `value_init` is "reward" and the reward model is not a linear head on the frozen
            backbone's states.
    """
    adapters = {**reward_adapters(reward, sft=sft), POLICY: sft}
    if value_init == "reward" and REWARD in adapters:
        raise UserError(
            "ppo.value_init: found 'reward', but the reward model has a backbone of its own (reward.train: lora); "
            "allowed: zero"
        )
    backbone = load_checked(
        base, adapters, engine=engine, trainable=(POLICY,), dtype=runtime.dtype, device=runtime.device,
        decided=conformance,
    )  # fmt: skip
    own = adapters.get(REWARD, sft).as_posix()
    model = RewardModel.load(reward, hidden_size=backbone.hidden_size, adapter=own).to(runtime.device)
    value_head = ValueHead(backbone.hidden_size).to(runtime.device)
    if value_init == "reward":
        if not model.is_plain:
            raise UserError(
                "ppo.value_init: found 'reward', but the reward is no linear function of the states (reward.logprobs, "
                "reward.head_units, reward.length_correction); allowed: zero"
            )
        weight, bias = model.line.weight.detach().mean(0), model.line.bias.detach().mean(0)
        value_head.load_from_reward(weight, bias, mean=model.mean, std=model.std)
    own_pass = REWARD in adapters or model.logprobs
    source = OwnPassSource(model, backbone, read_under(adapters)) if own_pass else RewardModelSource(model)
    return Actors(backbone, value_head, source)


def parts(total: int, shards: int) -> list[slice]:
    """Cut range(total) into `shards` slices in order, of sizes that differ by one at most."""
    return [slice(total * at // shards, total * (at + 1) // shards) for at in range(shards)]


def chunks(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover range(total)."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
