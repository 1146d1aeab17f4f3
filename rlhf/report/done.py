"""Tell what was done: task, models and parameters."""

from collections.abc import Mapping
from typing import Any

from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.wording import Numbers, show

SOURCES = {
    "synthetic": "a made-up task whose truth is known (`data.source: synthetic`)",
    "files": "files of your own (`data.path`)",
    "hub": "a dataset from a hub, pinned to a commit (`data.hub`)",
}
SETTINGS = (
    ("base.source", "base model"), ("sft.lora.rank", "LoRA rank"), ("sft.lr", "SFT learning rate"),
    ("sft.epochs", "SFT epochs"), ("reward.train", "reward model, what is trained"), ("reward.members", "reward heads"),
    ("reward.lr", "reward learning rate"), ("ppo.iterations", "PPO iterations"), ("ppo.batch", "episodes an iteration"),
    ("ppo.lr", "PPO learning rate"), ("ppo.kl_coef", "KL coefficient"), ("ppo.kl_controller", "KL controller"),
    ("ppo.response_tokens", "longest response, tokens"), ("runtime.device", "device"), ("runtime.dtype", "precision"),
)  # fmt: skip


def done(run: Inputs) -> Section:
    """Describe task, models and parameters; parameters that differ from the profile are listed."""
    n, resolved = run.numbers, run.resolved
    replies = "both replies of each pair" if resolved["sft"]["replies"] == "both" else "the chosen replies"
    texts = [
        f"Profile `{resolved['profile']}`, seed {resolved['seed']}. Preferences come from "
        f"{SOURCES.get(resolved['data']['source'], resolved['data']['source'])}. {_base(resolved, n)}",
        f"Three models are trained one after the other: a policy fine-tuned on {replies} (SFT), a reward "
        "model on its hidden states, and a policy that PPO optimises against that reward model while a KL penalty "
        "holds it near SFT.",
    ]
    flat, own = flattened(resolved), flattened(run.profile)
    changed = [
        (key, value, flat[key]) for key, value in own.items() if key in flat and (flat[key] or 0) != (value or 0)
    ]
    blocks: list[Block] = [Text(text) for text in texts]
    blocks.append(Table(
        ("setting", "parameter", "value"),
        [(name, f"`{key}`", _value(flat[key])) for key, name in SETTINGS if key in flat],
        "The settings that matter most",
    ))  # fmt: skip
    if changed:
        rows = [(f"`{key}`", _value(before), _value(after)) for key, before, after in changed]
        blocks.append(Table(("parameter", "profile", "this run"), rows, "Parameters that differ from the profile"))
    else:
        blocks.append(Text("No parameter that the profile sets was changed for this run."))
    every = [(f"`{key}`", _value(value)) for key, value in flat.items()]
    blocks.append(Table(("parameter", "value"), every, "All parameters", short=False))
    return Section("done", "What was done", blocks)


def _base(resolved: Mapping[str, Any], n: Numbers) -> str:
    base, size = resolved["base"], n.number("base_parameters")
    sized = f" of {size:,.0f} parameters" if size is not None else ""
    if base["source"] == "pretrain":
        steps = base["pretrain"]["steps"]
        return f"The base model{sized} was pretrained here from scratch, {steps:,} steps on text made for the purpose."
    if base["source"] == "hub":
        return f"The base model{sized} is `{base['repo']}` at commit `{base['revision']}`."
    return f"The base model{sized} comes from a folder (`base.path`)."


def flattened(value: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Flatten nested parameters to dotted names."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        dotted = f"{key}{name}"
        found |= flattened(item, f"{dotted}.") if isinstance(item, Mapping) else {dotted: item}
    return found


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return f"`{value!r}`" if "\n" in value else f"`{value}`" if value else "(empty)"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "(none)"
    return "none" if value is None else show(value)
