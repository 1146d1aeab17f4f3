"""All parameters: every stage's section composed, a profile merged under params.yaml, and checked as a whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rlhf.acquire.params import AcquireParams
from rlhf.base.params import BaseParams
from rlhf.core.errors import UserError
from rlhf.core.escapes import check_escapes
from rlhf.core.launcher import SHARDS, LaunchParams, one_asks, shards_of
from rlhf.core.live import LiveParams
from rlhf.core.params import Section, by_stage, check, dug, merge
from rlhf.core.processes import indivisible
from rlhf.core.runtime import RuntimeParams
from rlhf.core.yaml import read_yaml
from rlhf.diagnose.params import Thresholds, VerdictName
from rlhf.evaluate.params import EvaluateParams
from rlhf.measure.params import SFT_BACKBONE, RefereeParams
from rlhf.offline.params import OfflineParams
from rlhf.ppo.params import PPOParams
from rlhf.prepare.params import DataParams
from rlhf.report.params import ReportParams
from rlhf.reward.params import RewardParams
from rlhf.sft.params import SFTParams

FALLBACKS = {"none": "artifacts/sft", "dpo": "artifacts/offline/dpo"}  # ppo.fallback -> ppo.fallback_path

RENAMED = {  # keys that params.yaml no longer has -> what each is called now; docs/renames.md has the whole table
    "reward.heldout_share": "reward.referee_share",
    "ppo.heldout_every": "ppo.validation_every",
    "ppo.heldout_by": "ppo.validation_by",
    "ppo.heldout_prompts": "ppo.validation_prompts",
    "ppo.heldout_patience": "ppo.validation_patience",
}
RENAMED_VALUES = {("ppo.validation_by", "heldout"): "referee"}  # (key, old value) -> new value

SAMPLED_AS_PPO = {  # section -> its names of PPO's response_tokens and temperature, and what another value means
    "sft": ("sample_tokens", "sample_temperature", "the samples shown are not drawn as PPO draws"),
    "reward": ("response_tokens", "temperature", "scores are normalised on other responses than PPO's"),
    "offline.shared": ("response_tokens", "temperature", "the alternatives learn from other responses than PPO"),
    "evaluate": ("response_tokens", "temperature", "policies are measured on other responses than PPO learnt from"),
}


class EvaluateSection(EvaluateParams):
    """`evaluate` as params.yaml has it, with what belongs to it for a reader but not for the stage."""

    fail_on: list[VerdictName]


class Params(Section):
    """The whole of params.yaml, resolved."""

    profile: str
    seed: int = Field(ge=0, lt=2**31)
    runtime: RuntimeParams
    live: LiveParams
    launch: LaunchParams
    data: DataParams
    base: BaseParams
    sft: SFTParams
    reward: RewardParams
    ppo: PPOParams
    referee: RefereeParams
    offline: OfflineParams
    acquire: AcquireParams
    evaluate: EvaluateSection
    diagnose: Thresholds
    report: ReportParams

    def stages(self) -> dict[str, Any]:
        """Sections as the stages read them, the content of params.resolved.json."""
        return by_stage(self.model_dump(mode="json"))


def resolve(params: Path, profiles: Path) -> Params:
    """params.yaml over the profile that it names; a null in params.yaml takes the profile's value.

    Raises:
        UserError: a file is missing or malformed; a key is unknown, missing, of the wrong type or out of range: one
            line each, naming the file that holds the value.
    """
    own = read_yaml(params)
    name = own.get("profile")
    known = sorted(path.stem for path in profiles.glob("*.yaml"))
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{params}: profile: found {name!r}; known profiles: {', '.join(known)}")
    path = profiles / f"{name}.yaml"
    profile = read_yaml(path)
    _known_fields(own, Params, params)
    _known_keys(profile, own, path, params)
    merged = merge(profile, own)
    _renamed_values(merged, f"{params} with {path}")
    resolved = check(Params, merged, where=f"{params} with {path}")
    check_escapes(resolved.model_dump(), f"{params} with {path}")
    _together(resolved, params)
    return resolved


def check_encoder(resolved: Params) -> None:
    """Try the referee's sentence encoder, which is read late, before any stage has worked for it.

    Raises:
        UserError: as `SentenceEncoder.load`, with the name of the parameter.
    """
    if resolved.referee.encoder is None:
        return
    from rlhf.models.reward.encoder import SentenceEncoder

    try:
        SentenceEncoder.load(resolved.referee.encoder)
    except UserError as error:
        raise UserError(f"referee.backbone: {error}") from error


def notes(resolved: Params) -> list[str]:
    """What may be meant and is more often forgotten: responses that are sampled otherwise than PPO's."""
    values, found = resolved.model_dump(mode="json"), []
    for section, (tokens, temperature, meaning) in SAMPLED_AS_PPO.items():
        for name, of_ppo in ((tokens, "response_tokens"), (temperature, "temperature")):
            own, other = dug(values, f"{section}.{name}"), dug(values, f"ppo.{of_ppo}")
            if own != other:
                found.append(f"{section}.{name} is {own:g} and ppo.{of_ppo} {other:g}: {meaning}")
    return found


def _known_fields(own: Mapping[str, Any], section: type[Section], params: Path, key: str = "") -> None:
    """A misspelt key of params.yaml is named there, before a profile is blamed for having the right one."""
    for name, value in own.items():
        if name not in section.model_fields:
            _renamed(f"{key}{name}", params)
            known = ", ".join(sorted(section.model_fields))
            raise UserError(f"{params}: {key}{name}: unknown key; known are {known}")
        inner = section.model_fields[name].annotation
        if isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, Section):
            _known_fields(value, inner, params, f"{key}{name}.")


def _known_keys(profile: Mapping[str, Any], own: Mapping[str, Any], path: Path, params: Path, key: str = "") -> None:
    """A profile only sets keys that params.yaml has, so that a misspelt one is an error and not a silence."""
    for name, value in profile.items():
        dotted = f"{key}{name}"
        if name not in own:
            _renamed(dotted, path)
            raise UserError(f"{path}: {dotted}: unknown key; {params} has {', '.join(sorted(map(str, own)))}")
        if isinstance(value, Mapping) and isinstance(own[name], Mapping):
            _known_keys(value, own[name], path, params, f"{dotted}.")


def _renamed(name: str, where: Path) -> None:
    """Raise UserError with the new name where a key has been renamed."""
    if name in RENAMED:
        raise UserError(f"{where}: {name}: renamed; it is {RENAMED[name]} now (docs/renames.md)")


def _renamed_values(values: Mapping[str, Any], where: str) -> None:
    """Raise UserError with the new value where one has been renamed."""
    for (key, old), new in RENAMED_VALUES.items():
        if dug(values, key) == old:
            raise UserError(f"{where}: {key}: {old!r} is called {new!r} now (docs/renames.md)")


def _together(resolved: Params, params: Path) -> None:
    """Checks across sections."""
    needed, room = resolved.data.min_tokens, resolved.data.max_tokens
    if needed > room:
        raise UserError(f"{params}: data.min_tokens: found {needed}; at most data.max_tokens ({room}) is allowed")
    _processes_can_share(resolved, params)
    fallback, path = resolved.ppo.fallback, resolved.ppo.fallback_path
    if path != (where := FALLBACKS[fallback]):
        raise UserError(f"{params}: ppo.fallback_path: found {path!r}; with ppo.fallback {fallback} it must be {where}")
    _strategy_has_its_head(resolved, params)
    if resolved.referee.encoder is not None and resolved.reward.referee_share == 0:
        raise UserError(
            f"{params}: referee.backbone: found {resolved.referee.backbone!r} with reward.referee_share 0, which "
            f"leaves it no pairs; allowed: a share above 0, or {SFT_BACKBONE}"
        )
    if fallback == "dpo" and not resolved.offline.dpo.run:
        raise UserError(f"{params}: ppo.fallback: found 'dpo', which needs offline.dpo.run: true (found false)")


def _processes_can_share(resolved: Params, params: Path) -> None:
    count, values = resolved.launch.processes, resolved.model_dump(mode="json")
    if count == "auto":  # takes what they can
        return
    for stage in SHARDS:
        parts = shards_of(stage, values)
        if parts and (problem := indivisible(count, parts[1], parts[0])):
            raise UserError(f"{params}: {problem}")
    if problem := one_asks(count, values):
        raise UserError(f"{params}: {problem}")


def _strategy_has_its_head(resolved: Params, params: Path) -> None:
    acquire, reward = resolved.acquire, resolved.reward
    if not acquire.run:
        return
    if acquire.strategy == "ensemble" and reward.members == 1:
        raise UserError(
            f"{params}: acquire.strategy: found 'ensemble' with reward.members 1, and one head differs from nobody; "
            "allowed: reward.members of 2 or more"
        )
    if acquire.strategy == "d_optimal" and (reward.head_units or reward.train == "lora"):
        raise UserError(
            f"{params}: acquire.strategy: found 'd_optimal', which is for a linear head on frozen features; allowed: "
            "reward.train head and reward.head_units 0"
        )
