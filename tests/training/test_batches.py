"""Batches: what is padding, what is a label, and that no example is lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.training.batches import in_batches, response_batch

IDS = st.lists(st.integers(0, 20), min_size=1, max_size=9)


def test_labels_are_the_response_and_its_eos_alone() -> None:
    batch = response_batch([([1, 2, 3], [4, 0]), ([5], [6, 7, 8, 0])], 9)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 0], [5, 6, 7, 8, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 4, 0], [-100, 6, 7, 8, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_padding_is_to_the_longest_of_the_batch_and_never_a_label() -> None:
    batch = response_batch([([1], [2, 0]), ([1, 1], [2, 2, 2, 0])], 0)
    assert batch["input_ids"].shape == (2, 6)
    assert batch["input_ids"][0].tolist() == [1, 2, 0, 0, 0, 0]  # PAD may be EOS: only the real one is learnt
    assert batch["labels"][0].tolist() == [-100, 2, 0, -100, -100, -100]
    assert batch["attention_mask"][0].tolist() == [1, 1, 1, 0, 0, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=8))
def test_every_response_token_is_a_label_once(rows: list[tuple[list[int], list[int]]]) -> None:
    batch = response_batch(rows, 0)
    for index, (prompt, response) in enumerate(rows):
        labels, ids, mask = (batch[name][index] for name in ("labels", "input_ids", "attention_mask"))
        assert labels[labels != -100].tolist() == response
        assert ids[labels != -100].tolist() == response
        assert ids[mask == 1].tolist() == prompt + response
        assert int(labels[0]) == -100
    assert batch["labels"].shape[1] == max(len(prompt) + len(response) for prompt, response in rows)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_every_example_is_in_one_batch_beside_those_of_like_length(size: int) -> None:
    examples = [[1] * length for length in (3, 1, 2, 5, 4, 2)]
    batches = in_batches(examples, size, lambda rows: response_batch([([0], row) for row in rows], 9))
    widths = [int(row.sum()) - 1 for batch in batches for row in batch["attention_mask"]]
    assert widths == [1, 2, 2, 3, 4, 5]
    assert all(len(batch["labels"]) == size for batch in batches[:-1])
