"""Whether the prompts leave later stages anything to do: refused here, where minutes have passed, not hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Reply:
    """A length that a later stage will ask of replies, and the split whose prompts they answer."""

    key: str  # in params.yaml
    tokens: int | None  # None where the stage asks for none
    split: str


def check_replies(prompt_tokens: Mapping[str, Sequence[int]], replies: Sequence[Reply], context: int | None) -> None:
    """Refuse a length of replies for which no prompt of the split leaves room in the context.

    Args:
        prompt_tokens: of the prompts of each split, by its name; one without prompts is not looked at.
        replies: what will be asked for.
        context: tokens that the base model can attend to; None where it names no limit.

    Raises:
        UserError: no prompt does.
    """
    for reply in replies:
        lengths = prompt_tokens.get(reply.split)
        if context is None or reply.tokens is None or not lengths:
            continue
        if min(lengths) + reply.tokens > context:
            most = context - min(lengths)
            rest = f"at most {most} are allowed" if most > 0 else "none leaves room for a reply"
            raise UserError(
                f"{reply.key}: found {reply.tokens}; the shortest of the {reply.split} prompts has {min(lengths)} "
                f"tokens and the base model's context is {context}, so {rest}"
            )


def check_some_asked(prompt_tokens: Mapping[str, Sequence[int]], longest: int | None, splits: Sequence[str]) -> None:
    """Refuse prompts that are all longer than PPO takes.

    Raises:
        UserError: no prompt of a split that PPO reads has at most `longest` tokens.
    """
    for split in splits:
        lengths = prompt_tokens[split]
        if longest is not None and lengths and min(lengths) > longest:
            raise UserError(
                f"ppo.max_prompt_tokens: found {longest}; all {len(lengths)} pairs of the {split} split have longer "
                f"prompts, the shortest of {min(lengths)} tokens"
            )
