"""The prompts that policies are compared on."""

from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.seeding import rng


def read_prompts(path: Path) -> list[str]:
    """Each prompt of a file of pairs or prompts once, in order of first appearance; the file may be empty.

    Raises:
        UserError: the file is missing, or a row has no prompt (file:line).
    """
    found: dict[str, None] = {}
    for number, row in iter_jsonl(path):
        prompt = row.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise UserError(f"{path}:{number}: prompt: expected text, found {prompt!r:.40}")
        found[prompt] = None
    return list(found)


def choose(prompts: list[str], count: int, seed: int, name: str) -> list[str]:
    """At most `count` prompts, drawn without replacement; the same for every policy and every setting of training."""
    return rng(seed, "evaluate", "prompts", name).sample(prompts, min(count, len(prompts)))
