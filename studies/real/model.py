"""What the studies on a real model share: where the model is, and how replies are shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from studies.run import ROOT

MODEL = ROOT / "inputs" / "model" / "smollm2"
ENCODER = ROOT / "inputs" / "encoder" / "all-minilm-l6-v2"


def local_model() -> Path:
    """Find the model that `make smollm2-weights` writes.

    Raises:
        UserError: it is not there.
    """
    if not (MODEL / "config.json").is_file():
        raise UserError(f"{MODEL}: no model there; `make smollm2-weights` comes first")
    return MODEL


def local_encoder() -> Path:
    """Find the sentence encoder that `make minilm-weights` writes.

    Raises:
        UserError: it is not there.
    """
    if not (ENCODER / "config.json").is_file():
        raise UserError(f"{ENCODER}: no sentence encoder there; `make minilm-weights` comes first")
    return ENCODER


def side_by_side(own: dict[str, Any], policies: Sequence[str]) -> str:
    """Render a row's replies: a prompt a line, a policy a column, its reward behind it where it is noted."""
    from rlhf.measure.samples import cell

    title = f"seed {own['seed']}, {own['way']}" if "way" in own else f"seed {own['seed']}"
    lines = [f"Replies of {title}, the first prompts of the evaluation:", ""]
    lines += ["| prompt | " + " | ".join(name.upper() for name in policies) + " |", "|---" * (len(policies) + 1) + "|"]
    for row in own["samples"]:
        rewards = [f" ({row[f'{name}_reward']:.2f})" if f"{name}_reward" in row else "" for name in policies]
        cells = [cell(row["prompt"]), *(cell(row[name]) + said for name, said in zip(policies, rewards, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
