from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.core.artifacts import sha256_tree, write_json
from rlhf.core.errors import UserError
from rlhf.models.text.load import load_tokenizer
from rlhf.prepare.tokenizer import check_fits, context_of, train_tokenizer

TEXTS = [f"\n\nHuman: What does a cow {i} eat?\n\nAssistant: A cow eats grass." for i in range(50)]
TRAINED = train_tokenizer(TEXTS, 300)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_every_text_encodes_and_decodes_to_itself(text: str) -> None:
    ids = TRAINED(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert TRAINED.decode(ids, clean_up_tokenization_spaces=False) == text


def test_special_tokens_stand_apart(tmp_path: Path) -> None:
    TRAINED.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.eos_token, loaded.pad_token) == ("<|endoftext|>", "<|pad|>")
    assert (loaded.eos_token_id, loaded.pad_token_id) == (0, 1)
    assert len(loaded) == 300
    assert loaded("A cow")["input_ids"] == TRAINED("A cow", add_special_tokens=False)["input_ids"]


def test_the_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_tokenizer(TEXTS, 400).save_pretrained(tmp_path / name)
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_the_longest_sequence_and_its_end_must_fit() -> None:
    check_fits(None, 10_000)
    check_fits(101, 100)
    with pytest.raises(UserError, match=r"data\.max_tokens: found 100; at most 99 is allowed.*context is 100"):
        check_fits(100, 100)


def test_context_by_the_names_that_configs_use(tmp_path: Path) -> None:
    for config, expected in (
        ({"n_positions": 1024, "n_ctx": 512}, 512),
        ({"max_position_embeddings": 2048}, 2048),
        ({"hidden_size": 8}, None),
    ):
        write_json(tmp_path / "config.json", config)
        assert context_of(tmp_path) == expected
