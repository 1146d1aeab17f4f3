"""Load the policies asked for on one backbone, and the reward model if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.policy.available import BASE, find_policy, policies
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.scoring import ADAPTER, Scorer, load_reward, read_under, reward_adapters


@dataclass(frozen=True, slots=True)
class Cast:
    """Policies by name with their adapters (None: the bare base), and the scorer of their replies."""

    backbone: Backbone
    adapters: dict[str, str | None]
    scorer: Scorer | None


def load_cast(layout: Layout, names: Sequence[str], runtime: Runtime) -> Cast:
    """Load the base once, and an adapter for each policy; no names means every policy of the run.

    Raises:
        UserError: a policy is not among the artifacts, or the reward model is of another backbone.
    """
    known = policies(layout)
    find_policy(known, BASE)
    wanted = list(dict.fromkeys(names)) or list(known)
    folders: dict[str, Path] = {ADAPTER: layout.sft} if "sft" in known else {}
    spoken: dict[str, str | None] = {}
    for name in wanted:
        folder = find_policy(known, name)
        spoken[name] = None if folder is None else name.replace("/", "-").replace(".", "-")
        if folder is not None:
            folders.setdefault(str(spoken[name]), folder)
    scored = "sft" in known and (layout.reward / "reward.json").is_file()
    if scored:
        folders |= {f"{name}": path for name, path in reward_adapters(layout.reward, sft=layout.sft).items()}
    backbone = Backbone.load(layout.base, folders, dtype=runtime.dtype, device=runtime.device)
    scorer = None
    if scored:
        model = load_reward(layout.reward, base=layout.base, sft=layout.sft).to(runtime.device)
        scorer = Scorer(backbone, model, read_under(folders))
    return Cast(backbone, spoken, scorer)
