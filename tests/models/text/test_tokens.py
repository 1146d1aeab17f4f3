"""Encoding, decoding and padding, with byte-level and sentencepiece tokenizers."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import Episodes, decode_response, encode_prompt, encode_response, pad_left, pad_right

PROMPT = "\n\nHuman: Why is the sky blue?\n\nAssistant:"


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(model_dir)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30))
def test_a_response_comes_back_byte_level(tiny_model_dir: Path, text: str) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    assert decode_response(tokenizer, encode_response(tokenizer, " " + text)) == " " + text


@pytest.mark.parametrize("text", [" Sure, it is 4.", "", " ", " a  b", "no space", " two\nlines", " caf\u00e9", "  x"])
def test_a_response_comes_back_with_a_real_sentencepiece_tokenizer(shared_data: Path, text: str) -> None:
    tokenizer = load_tokenizer(shared_data / "stories260K")
    ids = encode_response(tokenizer, text)
    assert decode_response(tokenizer, ids) == text
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.bos_token_id not in ids


def test_prompt_and_response_apart_are_the_tokens_of_the_whole(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "stories260K")
    apart = encode_prompt(tokenizer, PROMPT) + encode_response(tokenizer, " The air did it.", ended=False)
    assert apart == tokenizer(PROMPT + " The air did it.")["input_ids"]
    assert apart.count(tokenizer.bos_token_id) == 1


def test_the_real_gpt2_tokenizer_has_no_bos_and_pads_with_eos(shared_data: Path) -> None:
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(shared_data / "gpt2-tokenizer")
    assert encode_prompt(tokenizer, "Hello world") == [15496, 995]
    assert encode_response(tokenizer, " world") == [995, 50256]
    assert decode_response(tokenizer, [995, 50256]) == " world"


def test_ended(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = encode_response(tokenizer, " Paris", ended=False)
    assert encode_response(tokenizer, " Paris") == [*ids, tokenizer.eos_token_id]
    assert tokenizer.eos_token_id not in ids


def test_padding_by_hand() -> None:
    ids, mask = pad_left([[1, 2, 3], [4]], 9, "cpu")
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]
    ids, mask = pad_right([[1], [], [4, 5]], 0, "cpu")
    assert ids.tolist() == [[1, 0], [0, 0], [4, 5]]
    assert mask.tolist() == [[True, False], [False, False], [True, True]]
    assert pad_right([], 0, "cpu")[0].shape == (0, 0)


def test_episodes_side_by_side_and_selected() -> None:
    episodes = Episodes.of([[1, 2], [3]], [[4], [5, 6]], pad_id=0, device="cpu")
    assert episodes.sequence_ids.tolist() == [[1, 2, 4, 0], [0, 3, 5, 6]]
    assert episodes.sequence_mask.tolist() == [[True, True, True, False], [False, True, True, True]]
    swapped = episodes.select(torch.tensor([1, 0]))
    assert len(swapped) == 2
    assert swapped.prompt_ids.tolist() == [[0, 3], [1, 2]]
    assert swapped.mask.tolist() == [[True, True], [True, False]]
