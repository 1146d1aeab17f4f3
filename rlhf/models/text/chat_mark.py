"""The note by which a model folder says that control tokens in its prompts are real: a template wrote them.

`prepare` writes it beside the tokenizer where that is so: for the tokenizer's own chat template, with the token that
ends a reply, and for a `data.prompt_template` that holds control tokens. `base` copies it beside the model, so that
whoever loads the model encodes prompts and ends replies in the same way. Without a note prompts are plain text.
"""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import read_json, write_json
from rlhf.core.errors import UserError
from rlhf.models.text.control import set_turn_tokens, turn_tokens

NOTE = "chat_prompts.json"


def write_note(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the note for a tokenizer that `use_chat` or `use_tokens` set up; nothing for any other."""
    if has_tokens(tokenizer):
        end = str(tokenizer.convert_ids_to_tokens(end_id(tokenizer))) if is_chat(tokenizer) else None
        write_json(folder / NOTE, {"end": end, "turn_tokens": list(turn_tokens(tokenizer))})


def read_note(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Set the tokenizer up for what the note in `folder` says; nothing where there is none.

    Raises:
        UserError: the note names a token that the tokenizer does not have.
    """
    path = folder / NOTE
    if path.is_file():
        said = read_json(path)
        known = tokenizer.get_vocab()
        for name in filter(None, (said["end"], *said["turn_tokens"])):
            if name not in known:
                raise UserError(f"{path}: {name!r:.40} is not a token of the tokenizer beside it")
        if said["end"] is None:
            use_tokens(tokenizer)
        else:
            use_chat(tokenizer, end=said["end"], names=said["turn_tokens"])


def use_chat(tokenizer: PreTrainedTokenizerBase, *, end: str, names: Sequence[str]) -> None:
    """Let `rlhf.models.text.tokens` encode prompts and ends of replies as the chat template has them; `names` are the
    tokens that it writes."""
    set_turn_tokens(tokenizer, names)
    use_tokens(tokenizer)
    setattr(tokenizer, "_chat_end", tokenizer.get_vocab()[end])  # noqa: B010 - the library has no such


def use_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let control tokens in prompts be real, but for signed ones."""
    setattr(tokenizer, "_prompts_have_tokens", True)  # noqa: B010 - the library has no such


def has_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether control tokens in prompts are real; else prompts are plain text."""
    return bool(getattr(tokenizer, "_prompts_have_tokens", False))


def is_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether prompts are written by the tokenizer's chat template."""
    return getattr(tokenizer, "_chat_end", None) is not None


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a reply: the chat template's where prompts are written by it, else EOS."""
    found = getattr(tokenizer, "_chat_end", None)
    return int(tokenizer.eos_token_id if found is None else found)
