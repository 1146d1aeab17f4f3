"""Turn text into token ids and back, pad, and hold prompts with responses as `Episodes`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.models.text.chat_mark import end_id, has_tokens, is_chat
from rlhf.models.text.control import control_tokens, pattern, prompt_ids, text_ids

# What a response follows where it is encoded alone: prompts end with "Assistant:".
_ANCHOR = ":"
CHAT_ANCHORS = (":", "]", ">", "\n", "x")  # a chat template's end in many ways: the first that does not merge with it


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a prompt as `prepare` wrote it: plain text, but for control tokens where its template has some
    (`rlhf.models.text.control`). BOS where the tokenizer adds one (Llama does, GPT-2 does not), but none beside a chat
    template's own; never an EOS at the end.

    Raises:
        UserError: the tokenizer has no plain tokens for a control token in it.
    """
    if is_chat(tokenizer):
        return _said(prompt_ids, tokenizer, text)
    if has_tokens(tokenizer):
        return _with_bos(tokenizer, _said(prompt_ids, tokenizer, text))
    if pattern(control_tokens(tokenizer)).search(text):
        return encode_text(tokenizer, text)
    ids = list(tokenizer(text)["input_ids"])
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a text that no template wrote, such as a benchmark's: all of it plain, BOS where the tokenizer adds one.

    Raises:
        UserError: as `encode_prompt`.
    """
    return _with_bos(tokenizer, _said(text_ids, tokenizer, text))


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str, *, ended: bool = True) -> list[int]:
    """Encode a response that follows a prompt, all of it plain: no BOS, and its end token if it `ended` by itself.

    Sentencepiece-like tokenizers put a space before any text. A response continues a text, so for those it is encoded
    behind an anchor, whose ids are then cut off.

    Raises:
        UserError: as `encode_prompt`.
    """
    ids = _continuation(tokenizer, text)
    return [*ids, end_id(tokenizer)] if ended else ids


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Decode response ids without special tokens; undoes `encode_response`, leading space included."""
    ids = [int(i) for i in ids]
    if ids and ids[-1] == end_id(tokenizer):
        ids.pop()
    if not prepends_space(tokenizer):
        return _decode(tokenizer, ids)
    anchor = list(tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"])
    return _decode(tokenizer, anchor + ids).removeprefix(_decode(tokenizer, anchor))


def _continuation(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    plain = _said(text_ids, tokenizer, text)
    if not text or not prepends_space(tokenizer):
        return plain
    for before in CHAT_ANCHORS if is_chat(tokenizer) else (_ANCHOR,):
        anchor = list(tokenizer(before, add_special_tokens=False)["input_ids"])
        both = _said(text_ids, tokenizer, before + text)
        if both[: len(anchor)] == anchor:
            return both[len(anchor) :]
    return plain


def _with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """Put what the tokenizer adds before a text before ids; nothing is added behind them."""
    one = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    both = list(tokenizer("a")["input_ids"])
    bos = next((both[:n] for n in range(len(both)) if both[n : n + len(one)] == one), [])
    return ids if bos and ids[: len(bos)] == bos else [*bos, *ids]


def _said(
    encode: Callable[[PreTrainedTokenizerBase, str], list[int]], tokenizer: PreTrainedTokenizerBase, text: str
) -> list[int]:
    try:
        return encode(tokenizer, text)
    except ValueError as error:
        raise UserError(str(error)) from error


def prepends_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the tokenizer writes a space of its own before any text ("a" becomes "▁a")."""
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(ids) and str(tokenizer.convert_ids_to_tokens(ids)[0]).startswith("▁")


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str
) -> tuple[Int[Tensor, "B P"], Bool[Tensor, "B P"]]:
    """Pad rows of ids on the left to the longest; return ids and mask (True on real tokens)."""
    return _pad(rows, pad_id, device, left=True)


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str
) -> tuple[Int[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """Pad rows of ids on the right to the longest; return ids and mask (True on real tokens)."""
    return _pad(rows, pad_id, device, left=False)


def _pad(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str, *, left: bool
) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
    width = max((len(row) for row in rows), default=0)
    ids, mask = [], []
    for row in rows:
        padding = [pad_id] * (width - len(row))
        real, blank = [True] * len(row), [False] * len(padding)
        ids.append([*padding, *row] if left else [*row, *padding])
        mask.append(blank + real if left else real + blank)
    shape = (len(rows), width)
    return (
        torch.tensor(ids, dtype=torch.int64, device=device).reshape(shape),
        torch.tensor(mask, dtype=torch.bool, device=device).reshape(shape),
    )


@dataclass(frozen=True, slots=True)
class Episodes:
    """Prompts with their responses, as ids. Axes: B episodes, P prompt tokens, R response tokens, T = P + R.

    Prompts are left-padded, responses right-padded; masks are True on real tokens, a response's first EOS
    included.
    """

    prompt_ids: Int[Tensor, "B P"]
    prompt_mask: Bool[Tensor, "B P"]
    response_ids: Int[Tensor, "B R"]
    mask: Bool[Tensor, "B R"]

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        *,
        pad_id: int,
        device: torch.device | str,
    ) -> "Episodes":
        """Make episodes from rows of ids of any lengths."""
        return cls(*pad_left(prompts, pad_id, device), *pad_right(responses, pad_id, device))

    def __len__(self) -> int:
        return self.prompt_ids.shape[0]

    @property
    def sequence_ids(self) -> Int[Tensor, "B T"]:
        """Join prompt and response ids."""
        return torch.cat((self.prompt_ids, self.response_ids), dim=1)

    @property
    def sequence_mask(self) -> Bool[Tensor, "B T"]:
        """Join prompt and response masks."""
        return torch.cat((self.prompt_mask, self.mask), dim=1)

    def select(self, index: Int[Tensor, " N"] | slice) -> "Episodes":
        """Select the episodes at `index`, in its order; widths stay."""
        return Episodes(self.prompt_ids[index], self.prompt_mask[index], self.response_ids[index], self.mask[index])

    def to(self, device: torch.device | str) -> "Episodes":
        """Copy the episodes to another device."""
        return Episodes(
            self.prompt_ids.to(device),
            self.prompt_mask.to(device),
            self.response_ids.to(device),
            self.mask.to(device),
        )
