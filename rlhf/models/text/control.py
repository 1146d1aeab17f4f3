"""Control tokens in texts: those that a template wrote are real tokens, those that the data hold are plain text.

Both look the same in a string: "What does </s> mean?" must not end anything, and the "</s>" of a chat template must.
So where a template writes control tokens, one that the data hold is written into the prompt with a sign behind its
first character, which no tokenizer takes for a token. Encoding takes the sign out again and encodes the text as if it
were any other. Where the template writes none, all of a prompt is plain text, and nothing is signed.
"""

import re
from collections.abc import Iterable
from functools import cache

from transformers import PreTrainedTokenizerBase

SIGN = "\ufdd0"  # a noncharacter of Unicode (section 23.7: for use within a program)
# What the tokenizers of well-known families have as control tokens; to other tokenizers they are text.
FAMILIES = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>",
    "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
    "<|end_of_turn|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|start|>", "<|message|>", "<|return|>",
    "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # sentencepiece's names of bytes: parts of text
_NONE = re.compile(r"(?!)")


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """List the tokens that have a meaning of their own: end, start, padding, turns. A single character is none."""
    known: tuple[str, ...] | None = getattr(tokenizer, "_control_tokens", None)
    if known is not None:
        return known
    added = tokenizer.added_tokens_decoder.values()
    names = {str(token) for token in added if getattr(token, "special", False)} | set(tokenizer.all_special_tokens)
    names |= set(turn_tokens(tokenizer))
    known = tuple(sorted(name for name in names if len(name) > 1 and not _BYTE.fullmatch(name)))
    setattr(tokenizer, "_control_tokens", known)  # noqa: B010 - asked for with every text
    return known


def set_turn_tokens(tokenizer: PreTrainedTokenizerBase, names: Iterable[str]) -> None:
    """Count further tokens among the control tokens: those that a chat template writes and that are not marked special
    in the tokenizer."""
    setattr(tokenizer, "_turn_tokens", tuple(names))  # noqa: B010 - not an attribute that the library knows
    setattr(tokenizer, "_control_tokens", None)  # noqa: B010 - to be listed anew


def turn_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return what `set_turn_tokens` set."""
    found: tuple[str, ...] = getattr(tokenizer, "_turn_tokens", ())
    return found


@cache
def pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Compile what finds any of the names, the longest first."""
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else _NONE


def as_plain(text: str, names: tuple[str, ...]) -> str:
    """Sign every control token in a text of the data, overlapping ones too, so that it stays text in a prompt."""
    found = pattern(names)
    if not found.search(text):
        return text
    return "".join(letter + (SIGN if found.match(text, at) else "") for at, letter in enumerate(text))


def unsigned(text: str) -> str:
    """Take the signs out: the text as the data hold it."""
    return text.replace(SIGN, "")


def stripped(text: str, names: tuple[str, ...]) -> str:
    """Take control tokens off both ends of a text, with the white space outside of them; else it stays as it is."""
    one = pattern(names).pattern
    text = re.sub(rf"\A(?:\s*(?:{one}))+", "", text)
    return re.sub(rf"(?:(?:{one})\s*)+\Z", "", text)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a text of which nothing is a control token; neither BOS nor EOS is added.

    Raises:
        ValueError: its words are control tokens for this tokenizer however it is encoded.
    """
    names = control_tokens(tokenizer)
    if not pattern(names).search(text):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    forbidden = {tokenizer.convert_tokens_to_ids(name) for name in names} - {tokenizer.unk_token_id}
    ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    if forbidden.isdisjoint(ids):
        return ids
    # Tokens that are not marked special, or words of the vocabulary: cut within each, and encoded piece by piece.
    first, *rest = as_plain(text, names).split(SIGN)
    ids = list(tokenizer(first, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    for piece in rest:
        ids += following(tokenizer, piece)
    if not forbidden.isdisjoint(ids):
        raise ValueError(f"the tokenizer has no plain tokens for {text!r:.60}")
    return ids


def following(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a text that continues another: sentencepiece-like tokenizers put a space before any text, so for those it
    is encoded behind an anchor, whose ids are then cut off."""

    def encoded(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    for anchor in (":", "]", "x"):
        start, both = encoded(anchor), encoded(anchor + text)
        if both[: len(start)] == start:
            return both[len(start) :]
    return encoded(text)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Encode a prompt in which control tokens are real, but for signed ones; neither BOS nor EOS is added.

    Raises:
        ValueError: a part with a signed token has no plain encoding where it stands.
    """
    if SIGN not in prompt:
        return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    names = control_tokens(tokenizer)
    if not pattern(names).search(prompt):
        return text_ids(tokenizer, unsigned(prompt))
    # Between two control tokens the tokenizer works on the text alone: those parts are encoded anew without the signs.
    encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    control = {tokenizer.convert_tokens_to_ids(name) for name in names}
    found: list[int] = []
    part: list[int] = []  # ids since the last control token
    start = 0
    for token, (begin, end) in [*zip(encoded["input_ids"], encoded["offset_mapping"], strict=True), (None, (-1, -1))]:
        if token is not None and token not in control:
            part.append(token)
            continue
        text = prompt[start : begin if token is not None else len(prompt)]
        found += part if SIGN not in text else _plain_part(tokenizer, text, part)
        found += [] if token is None else [token]
        part, start = [], end
    return found


def _plain_part(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int]) -> list[int]:
    """Encode a part without its signs, in the way that gives `ids` with them."""
    for encode in (text_ids, following):
        if encode(tokenizer, text) == ids:
            return encode(tokenizer, unsigned(text))
    raise ValueError(f"the tokenizer has no plain tokens for {unsigned(text)!r:.60} where it stands")
