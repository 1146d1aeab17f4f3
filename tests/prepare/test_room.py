"""What leaves a later stage nothing to do is refused by prepare."""

import pytest

from rlhf.core.errors import UserError
from rlhf.prepare.room import Reply, check_replies, check_some_asked

TOKENS = {"train": [30, 41, 35], "validation": [9, 50], "test": [12], "out-of-distribution": []}


def test_one_prompt_that_ppo_takes_is_enough() -> None:
    check_some_asked(TOKENS, 30, ("train", "validation"))
    check_some_asked(TOKENS, None, ("train", "validation"))
    check_some_asked(TOKENS, 9, ("validation",))


def test_prompts_that_are_all_too_long_for_ppo() -> None:
    with pytest.raises(UserError) as caught:
        check_some_asked(TOKENS, 29, ("train", "validation"))
    assert str(caught.value) == (
        "ppo.max_prompt_tokens: found 29; all 3 pairs of the train split have longer prompts, the shortest of 30 tokens"
    )


@pytest.mark.parametrize(
    ("reply", "context"),
    [
        (Reply("evaluate.response_tokens", 8, "test"), 20),
        (Reply("evaluate.response_tokens", 90, "out-of-distribution"), 20),  # there are none
        (Reply("sft.sample_tokens", None, "test"), 1),
        (Reply("sft.sample_tokens", 10**6, "test"), None),
    ],
)
def test_lengths_for_which_there_is_room(reply: Reply, context: int | None) -> None:
    check_replies(TOKENS, [reply], context)


@pytest.mark.parametrize(("context", "rest"), [(19, "at most 7 are allowed"), (12, "none leaves room for a reply")])
def test_lengths_for_which_no_prompt_leaves_room(context: int, rest: str) -> None:
    with pytest.raises(UserError) as caught:
        check_replies(TOKENS, [Reply("evaluate.response_tokens", 8, "test")], context)
    assert str(caught.value) == (
        "evaluate.response_tokens: found 8; the shortest of the test prompts has 12 tokens and the base model's "
        f"context is {context}, so {rest}"
    )
