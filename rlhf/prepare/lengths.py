"""Measure lengths in tokens, as the models will see them, and filter by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.models.text.chat_mark import is_chat
from rlhf.models.text.control import SIGN, control_tokens, pattern
from rlhf.models.text.tokens import encode_prompt, encode_response
from rlhf.prepare.rows import Pair


@dataclass(frozen=True, slots=True)
class PromptRoom:
    """The space that PPO needs for prompts: a prompt of at most `longest` tokens (None: any) is answered by up to
    `response_tokens`, and `splits` name the splits that its prompts come from."""

    longest: int | None
    response_tokens: int
    splits: tuple[str, ...]


_BATCH = 2000  # texts a call; the fast tokenizers work on a batch in parallel


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of one pair: the prompt, and each reply. The end-of-text token is not counted."""

    prompt: int
    chosen: int
    rejected: int

    def dropped_by(self, minimum: int, maximum: int) -> str | None:
        """Name the filter that drops the pair, if any: each sequence, prompt + reply, must lie within the bounds."""
        if self.prompt + self.chosen < minimum:
            return "short_chosen"
        if self.prompt + self.rejected < minimum:
            return "short_rejected"
        if self.prompt + self.chosen > maximum:
            return "long_chosen"
        return "long_rejected" if self.prompt + self.rejected > maximum else None


def check_prompts(
    splits: Mapping[str, Sequence[Pair]], prompt_tokens: Mapping[str, int], room: PromptRoom, context: int
) -> None:
    """Refuse a prompt that leaves no room for a response, at which PPO would stop hours later.

    Args:
        splits: pairs by the name of their split.
        prompt_tokens: of each prompt.
        room: what is asked of prompts.
        context: tokens that the base model can attend to.

    Raises:
        UserError: PPO would take a prompt that does not fit the context together with a response.
    """
    allowed = context - room.response_tokens
    for name in room.splits:
        for number, pair in enumerate(splits[name]):
            tokens = prompt_tokens[pair.prompt]
            if allowed < tokens <= (tokens if room.longest is None else room.longest):
                key, found, most = "max_prompt_tokens", str(room.longest or "0 (all)"), allowed
                if allowed < 1:
                    key, found, most = "response_tokens", str(room.response_tokens), context - 1
                raise UserError(
                    f"ppo.{key}: found {found}, but the prompt of {pair.origin} ({name}-{number:05d}) has {tokens} "
                    f"tokens, and with ppo.response_tokens {room.response_tokens} exceeds the base model's context of "
                    f"{context}; at most {most} is allowed"
                )


def token_lengths(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[Lengths]:
    """Measure every pair, prompt and replies encoded apart as they are in training."""
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    of_prompt = dict(zip(prompts, _prompt_counts(prompts, tokenizer), strict=True))
    chosen = _reply_counts([pair.chosen for pair in pairs], tokenizer)
    rejected = _reply_counts([pair.rejected for pair in pairs], tokenizer)
    return [
        Lengths(of_prompt[pair.prompt], of_chosen, of_rejected)
        for pair, of_chosen, of_rejected in zip(pairs, chosen, rejected, strict=True)
    ]


def _prompt_counts(prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of prompts, those that the tokenizer puts before them included. Prompts with control tokens that are not
    a chat template's are encoded one by one, exactly."""
    overhead = len(encode_prompt(tokenizer, "x")) - len(tokenizer("x", add_special_tokens=False)["input_ids"])
    odd = pattern((SIGN,)) if is_chat(tokenizer) else pattern(control_tokens(tokenizer))
    found = [overhead + count for count in _counts(prompts, tokenizer)]
    for index, prompt in enumerate(prompts):
        if odd.search(prompt):
            found[index] = len(encode_prompt(tokenizer, prompt))
    return found


def _reply_counts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of replies that follow a prompt. Where a tokenizer puts a space of its own before a text they differ from
    those of the text alone, so the slower, exact way is taken; also where a reply holds control tokens."""
    probe, odd = " a b", pattern(control_tokens(tokenizer))
    if encode_response(tokenizer, probe, ended=False) != tokenizer(probe, add_special_tokens=False)["input_ids"]:
        return [len(encode_response(tokenizer, text, ended=False)) for text in texts]
    found = _counts(texts, tokenizer)
    for index, text in enumerate(texts):
        if odd.search(text):
            found[index] = len(encode_response(tokenizer, text, ended=False))
    return found


def _counts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    found: list[int] = []
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        found += map(len, tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"])
    return found
