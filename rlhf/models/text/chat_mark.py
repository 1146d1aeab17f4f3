"""The note by which a model folder says that its prompts are written by the tokenizer's own chat template.

`prepare` writes it, with the token that ends a reply, beside the tokenizer, and `base` copies it beside the model, so
that whoever loads the model encodes prompts and ends replies in the same way.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import read_json, write_json
from rlhf.core.errors import UserError
from rlhf.models.text.control import set_turn_tokens

NOTE = "chat_prompts.json"


def write_note(folder: Path, *, end: str, turn_tokens: Sequence[str]) -> None:
    """Write the note: the token that ends a reply, and all tokens that the template writes."""
    write_json(folder / NOTE, {"template": "chat", "end": end, "turn_tokens": list(turn_tokens)})


def read_note(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Set the tokenizer up for what the note in `folder` says; nothing where there is none.

    Raises:
        UserError: the note names a token that the tokenizer does not have.
    """
    path = folder / NOTE
    if path.is_file():
        said = read_json(path)
        known = tokenizer.get_vocab()
        for name in (said["end"], *said["turn_tokens"]):
            if name not in known:
                raise UserError(f"{path}: {name!r:.40} is not a token of the tokenizer beside it")
        use_chat(tokenizer, end=said["end"], turn_tokens=said["turn_tokens"])


def use_chat(tokenizer: PreTrainedTokenizerBase, *, end: str, turn_tokens: Sequence[str]) -> None:
    """Let `rlhf.models.text.tokens` encode prompts and ends of replies as the chat template has them."""
    set_turn_tokens(tokenizer, turn_tokens)
    setattr(tokenizer, "_chat_end", int(tokenizer.convert_tokens_to_ids(end)))  # noqa: B010 - the library has no such


def is_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether prompts are written by the tokenizer's chat template."""
    return getattr(tokenizer, "_chat_end", None) is not None


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a reply: the chat template's where prompts are written by it, else EOS."""
    found = getattr(tokenizer, "_chat_end", None)
    return int(tokenizer.eos_token_id if found is None else found)
