"""Read the prompts of a file of pairs."""

from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.conversation import shown
from rlhf.core.errors import UserError
from rlhf.models.text.control import unsigned


def read_prompts(path: Path) -> list[str]:
    """Read each prompt of a file of pairs or prompts once, in order of first appearance; the file may be empty.

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


def read_shown(path: Path) -> dict[str, str]:
    """Read how each prompt of such a file is shown to readers, people and judges: as turns under their roles where a
    chat template wrote it."""
    found: dict[str, str] = {}
    for _, row in iter_jsonl(path):
        prompt = row.get("prompt")
        if isinstance(prompt, str):
            found.setdefault(prompt, shown(row, unsigned(prompt)))
    return found
