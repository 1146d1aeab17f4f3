from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import encode_prompt, encode_response
from rlhf.prepare.lengths import Lengths, PromptRoom, check_prompts, token_lengths
from rlhf.prepare.rows import Pair
from tests.prepare.test_tokenizer import TRAINED


def pair(prompt: str, chosen: str, rejected: str) -> Pair:
    return Pair(prompt, chosen, rejected, "f:1", None, 1)


PAIRS = [
    pair("\n\nHuman: Hi\n\nAssistant:", " Hello there, friend.", " No."),
    pair("\n\nHuman: Hi\n\nAssistant:", " Zürich 1234 ☃", " A cow eats grass."),
    pair("x", " y", " z"),
]


def check_against_one_by_one(tokenizer: object) -> None:
    expected = [
        Lengths(
            len(encode_prompt(tokenizer, p.prompt)),  # type: ignore[arg-type]
            len(encode_response(tokenizer, p.chosen, ended=False)),  # type: ignore[arg-type]
            len(encode_response(tokenizer, p.rejected, ended=False)),  # type: ignore[arg-type]
        )
        for p in PAIRS
    ]
    assert token_lengths(PAIRS, tokenizer) == expected  # type: ignore[arg-type]


def test_lengths_are_those_of_training_in_byte_level_tokenizers() -> None:
    check_against_one_by_one(TRAINED)


def test_lengths_are_those_of_training_where_a_tokenizer_adds_bos_and_a_space(shared_data: Path) -> None:
    check_against_one_by_one(load_tokenizer(shared_data / "stories260K"))


@pytest.mark.parametrize(
    ("lengths", "dropped"),
    [
        (Lengths(5, 5, 15), None),  # 10 and 20: both bounds are allowed
        (Lengths(5, 4, 15), "short_chosen"),
        (Lengths(5, 5, 4), "short_rejected"),
        (Lengths(5, 16, 5), "long_chosen"),
        (Lengths(5, 5, 16), "long_rejected"),
        (Lengths(25, 5, 5), "long_chosen"),
    ],
)
def test_both_sequences_must_lie_within_the_bounds(lengths: Lengths, dropped: str | None) -> None:
    assert lengths.dropped_by(10, 20) == dropped


LONG = "\n\nHuman: " + "so " * 12 + "\n\nAssistant:"
TOKENS = {pair.prompt: 9 for pair in PAIRS} | {LONG: 31}
SPLITS = {"train": PAIRS, "validation": [PAIRS[0], pair(LONG, " yes", " no")], "test": [pair(LONG, " a", " b")]}
ALL = ("train", "validation")


@pytest.mark.parametrize(
    "room",
    [
        PromptRoom(None, 9, ALL),  # 31 and 9 are the context
        PromptRoom(30, 20, ALL),  # left out by its length
        PromptRoom(None, 31, ("train",)),  # never asked
    ],
)
def test_prompts_that_fit_or_are_not_asked(room: PromptRoom) -> None:
    check_prompts(SPLITS, TOKENS, room, 40)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        (
            PromptRoom(None, 10, ALL),
            "ppo.max_prompt_tokens: found 0 (all), but the prompt of f:1 (validation-00001) has 31 tokens, and with "
            "ppo.response_tokens 10 exceeds the base model's context of 40; at most 30 is allowed",
        ),
        (PromptRoom(31, 10, ALL), "ppo.max_prompt_tokens: found 31, but the prompt of f:1 (validation-00001)"),
        (PromptRoom(None, 40, ALL), "ppo.response_tokens: found 40, but the prompt of f:1 (train-00000) has 9 tokens"),
    ],
)
def test_prompts_that_leave_no_room_are_named(room: PromptRoom, line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_prompts(SPLITS, TOKENS, room, 40)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
