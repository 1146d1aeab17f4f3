"""The policies of a run by name: base, sft, ppo, and offline/<method> for each alternative that was trained."""

from collections.abc import Mapping
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout

BASE = "base"


def policies(layout: Layout) -> dict[str, Path | None]:
    """Find the policies on disk: name -> folder of the adapter over the base model, None for the base model itself."""
    found: dict[str, Path | None] = {BASE: None} if (layout.base / "config.json").is_file() else {}
    folders = {"sft": layout.sft, "ppo": layout.ppo}
    offline = layout.artifacts / "offline"
    folders |= {f"offline/{folder.name}": folder for folder in sorted(offline.glob("*"))}
    return found | {name: folder for name, folder in folders.items() if (folder / "adapter_config.json").is_file()}


def find_policy(known: Mapping[str, Path | None], name: str) -> Path | None:
    """Return the folder of the adapter of policy `name`, None for the base.

    Raises:
        UserError: it is not among `known`, which `policies` gives.
    """
    if name not in known:
        there = ", ".join(known) or "none; `dvc repro` makes them"
        raise UserError(f"policy {name!r}: not among this run's artifacts; found: {there}")
    return known[name]
