"""What a run that its guards stopped hands on in place of a policy that nobody should trust."""

import sys
from pathlib import Path

from rlhf.core.artifacts import write_bytes
from rlhf.core.errors import UserError
from rlhf.ppo.params import PPOParams

NONE = "none"
FILES = ("adapter_model.safetensors", "adapter_config.json")


def check_fallback(params: PPOParams) -> None:
    """Before any work.

    Raises:
        UserError: a policy is to be fallen back on, and there is none.
    """
    folder = Path(params.fallback_path)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if params.fallback != NONE and missing:
        raise UserError(
            f"{folder / missing[0]}: no such file; ppo.fallback is {params.fallback}, so "
            f"`python -m stages.offline {params.fallback}` (offline.{params.fallback}.run: true) comes first"
        )


def hand_on(policy: Path, params: PPOParams, *, guarded: bool) -> str:
    """Put the fallback's adapter in the place of PPO's in folder `policy` if the run was stopped by a guard and there
    is a fallback; returns whose policy lies there now: NONE for PPO's own, or the fallback's name. PPO's value head
    goes, since it belongs to PPO's policy."""
    if not guarded or params.fallback == NONE:
        return NONE
    for name in FILES:
        write_bytes(policy / name, (Path(params.fallback_path) / name).read_bytes())
    (policy / "value_head.safetensors").unlink(missing_ok=True)
    sys.stderr.write(f"ppo: stopped by a guard; {policy} holds the policy of {params.fallback} (ppo.fallback)\n")
    return params.fallback
