from pathlib import Path
from typing import Literal

import pytest
import torch

from rlhf.core.artifacts import write_jsonl
from rlhf.core.errors import UserError
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import decode_response
from rlhf.sft.examples import Example, read_examples, validation_batches
from tests.sft.helpers import row


def example(prompt: list[int], response: list[int]) -> Example:
    return Example("id", "text", prompt, response)


@pytest.mark.parametrize("folder", ["tiny_model_dir", "tiny_llama_dir"])
def test_rows_become_prompt_and_ended_response(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    tokenizer = load_tokenizer(request.getfixturevalue(folder))  # neither has a pad token of its own
    write_jsonl(tmp_path / "train.jsonl", [row(3)])
    (one,) = read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=0, seed=0)
    assert one.response[-1] == tokenizer.eos_token_id
    assert one.response.count(tokenizer.eos_token_id) == 1
    assert one.prompt == tokenizer(row(3)["prompt"])["input_ids"]  # BOS where the tokenizer puts one
    assert decode_response(tokenizer, one.response).split() == ["It", "is", "blue."]
    assert tokenizer.pad_token_id is not None


def test_a_prompt_longer_than_the_context(tmp_path: Path, tiny_model_dir: Path) -> None:
    rows = [row(1), row(2) | {"prompt": "\n\nHuman: " + "why " * 200 + "\n\nAssistant:"}]
    write_jsonl(tmp_path / "train.jsonl", rows)
    tokenizer = load_tokenizer(tiny_model_dir)
    with pytest.raises(
        UserError,
        match=r"train.jsonl:2: the prompt has \d+ tokens .* the model's context is 128: lower data.max_tokens",
    ):
        read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=0, seed=0)


def test_replies_that_annotators_compared_are_no_demonstrations(tmp_path: Path, tiny_model_dir: Path) -> None:
    plain, path = [row(number) for number in range(9)], tmp_path / "train.jsonl"
    tokenizer = load_tokenizer(tiny_model_dir)
    write_jsonl(path, plain)
    before = [read_examples(path, tokenizer, context=128, limit=limit, seed=0) for limit in (0, 4)]
    answers = [row(50 + number) | {"labelled_by": "people", "target": 0.75} for number in range(5)]
    write_jsonl(path, plain[:4] + answers + plain[4:])
    assert [read_examples(path, tokenizer, context=128, limit=limit, seed=0) for limit in (0, 4)] == before
    write_jsonl(path, answers)
    with pytest.raises(UserError, match=r"train.jsonl: empty; at least one pair is needed"):
        read_examples(path, tokenizer, context=128, limit=0, seed=0)


def test_an_empty_training_set(tmp_path: Path, tiny_model_dir: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [])
    with pytest.raises(UserError, match=r"train.jsonl: empty; at least one pair is needed"):
        read_examples(tmp_path / "train.jsonl", load_tokenizer(tiny_model_dir), context=128, limit=0, seed=0)


@pytest.mark.parametrize("value", [None, True, 3])
def test_a_chosen_reply_that_is_no_text(tmp_path: Path, tiny_model_dir: Path, value: object) -> None:
    write_jsonl(tmp_path / "train.jsonl", [row(1) | {"chosen": value}])
    with pytest.raises(UserError, match=rf"train.jsonl:1: 'chosen' must be a string, found {value}"):
        read_examples(tmp_path / "train.jsonl", load_tokenizer(tiny_model_dir), context=128, limit=0, seed=0)


def test_a_limit_draws_by_the_seed(tmp_path: Path, tiny_model_dir: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [row(number) for number in range(40)])
    tokenizer = load_tokenizer(tiny_model_dir)
    drawn = [
        [e.id for e in read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=10, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert drawn[0] == sorted(drawn[0], key=lambda name: int(name.split("-")[1]))


def test_both_replies_of_each_pair(tmp_path: Path, tiny_model_dir: Path) -> None:
    rows = [row(number) | {"chosen": f"good {number}", "rejected": f"bad {number}"} for number in range(6)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    tokenizer = load_tokenizer(tiny_model_dir)

    def texts(limit: int, replies: Literal["chosen", "both"]) -> list[str]:
        found = read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=limit, seed=0, replies=replies)
        return [tokenizer.decode(e.response, skip_special_tokens=True).strip() for e in found]

    assert texts(0, "both") == [f"{word} {number}" for number in range(6) for word in ("good", "bad")]
    assert texts(0, "chosen") == [f"good {number}" for number in range(6)]
    few = texts(5, "both")
    assert len(few) == len(set(few)) == 5
    assert {text.split()[0] for text in few} == {"good", "bad"}


def test_a_rejected_reply_that_is_no_text_is_refused_where_it_is_learnt(tmp_path: Path, tiny_model_dir: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [row(1) | {"rejected": None}])
    tokenizer = load_tokenizer(tiny_model_dir)
    assert len(read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=0, seed=0)) == 1
    with pytest.raises(UserError, match=r"train.jsonl:1: 'rejected' must be a string, found None"):
        read_examples(tmp_path / "train.jsonl", tokenizer, context=128, limit=0, seed=0, replies="both")


def test_validation_batches_hold_every_example() -> None:
    examples = [example([1] * size, [2] * (7 - size)) for size in (3, 1, 2, 5, 4)]
    batches = validation_batches(examples, 2, pad_id=0)
    assert [batch["input_ids"].shape[0] for batch in batches] == [2, 2, 1]
    assert sum(int((batch["labels"] != -100).sum()) for batch in batches) == 4 + 6 + 5 + 2 + 3
    assert torch.equal(batches[0]["attention_mask"], torch.ones(2, 7, dtype=torch.int64))
