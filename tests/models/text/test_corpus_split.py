"""The split of a corpus into training and validation documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.models.text.corpus_split import split_documents


@given(st.integers(2, 60), st.floats(0.01, 0.49), st.integers(0, 5))
def test_validation_documents_are_whole_and_apart(count: int, share: float, seed: int) -> None:
    texts = [f"document {index}" for index in range(count)]
    train, validation = split_documents(texts, validation_share=share, seed=seed)
    assert sorted(train + validation) == sorted(texts)
    assert len(validation) == max(1, round(share * count))
    assert train == [text for text in texts if text in set(train)]  # order is kept
    assert (train, validation) == split_documents(texts, validation_share=share, seed=seed)


def test_too_few_documents() -> None:
    with pytest.raises(UserError, match=r"corpus.jsonl: found 1 documents"):
        split_documents(["one"], validation_share=0.1, seed=0)
