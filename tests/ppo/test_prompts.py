"""Prompts read from pairs, and the stream that hands them out."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.models.text.load import load_tokenizer
from rlhf.ppo.prompts import PromptStream, check_fits, load_prompts
from rlhf.ppo.types import Prompt
from rlhf.ppo.validation import choose_prompts


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{i}", f"text {i}", (1,) * (i + 1)) for i in range(count)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 5))
def test_every_prompt_once_an_epoch_whatever_the_batch(count: int, size: int, seed: int) -> None:
    stream = PromptStream(prompts(count), seed)
    drawn = [p.id for i in range(3 * count) for p in stream.batch(i, size)]
    for start in range(0, len(drawn) - count + 1, count):
        assert Counter(drawn[start : start + count]) == Counter(f"p{i}" for i in range(count))


def test_batches_are_a_function_of_seed_and_iteration() -> None:
    one, other = PromptStream(prompts(40), 1), PromptStream(prompts(40), 2)
    assert one.batch(7, 16) == PromptStream(prompts(40), 1).batch(7, 16)
    assert one.batch(0, 40) != other.batch(0, 40)
    assert one.batch(0, 40) != one.batch(1, 40)  # each epoch in another order


def test_distinct_prompts_in_order_and_long_ones_counted(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    rows = [{"id": str(i), "prompt": text} for i, text in enumerate(["a", "bb", "a", "x" * 50])]
    path = write(tmp_path / "train.jsonl", rows)
    kept, dropped = load_prompts(path, tokenizer, longest=None)
    assert [(p.id, p.text) for p in kept] == [("0", "a"), ("1", "bb"), ("3", "x" * 50)]
    assert dropped == 0
    assert kept[0].ids == tuple(tokenizer("a")["input_ids"])
    kept, dropped = load_prompts(path, tokenizer, longest=10)
    assert [p.id for p in kept] == ["0", "1"]
    assert dropped == 1
    path = write(tmp_path / "train.jsonl", [{"id": str(n), "prompt": "y" * n} for n in (9, 10, 11)])
    with pytest.raises(UserError, match=r"train\.jsonl: no prompts left: 3 read"):
        load_prompts(path, tokenizer, longest=1)


@pytest.mark.parametrize("row", [{"id": "0"}, {"id": "0", "prompt": ""}, {"id": "0", "prompt": True}])
def test_a_row_without_a_prompt_names_file_and_line(
    row: dict[str, object], tiny_model_dir: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.jsonl", [{"id": "a", "prompt": "fine"}, row])
    with pytest.raises(UserError, match=r"train\.jsonl:2: prompt: found"):
        load_prompts(path, load_tokenizer(tiny_model_dir), longest=None)


def test_a_prompt_that_does_not_fit_is_named() -> None:
    check_fits(prompts(5), response_tokens=3, context=8)
    with pytest.raises(UserError, match=r"prompt p5: 6 tokens and ppo\.response_tokens 3 exceed .* context of 8"):
        check_fits(prompts(6), response_tokens=3, context=8)


def test_validation_choice_is_seeded() -> None:
    all_prompts = prompts(30)
    drawn = choose_prompts(all_prompts, 10, 3)
    assert drawn == choose_prompts(all_prompts, 10, 3) != choose_prompts(all_prompts, 10, 4)
    assert len(choose_prompts(all_prompts, 99, 0)) == 30
