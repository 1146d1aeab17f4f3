from hypothesis import given
from hypothesis import strategies as st

from rlhf.base.pretrain import as_rows
from tests.model_fixtures import byte_bpe

TOKENIZER = byte_bpe(300)


def test_each_document_is_a_row_that_ends_with_eos() -> None:
    eos = TOKENIZER.eos_token_id
    a, b = TOKENIZER("zq")["input_ids"], TOKENIZER("xj!")["input_ids"]
    assert (len(a), len(b)) == (2, 3)  # rare letters: one token each, so that what follows is by hand
    assert as_rows(["zq", "xj!"], TOKENIZER, context=4) == [[*a, eos], [*b, eos]]
    assert as_rows(["zq", "xj!"], TOKENIZER, context=3) == [[*a, eos], b]  # b's EOS would stand alone
    assert as_rows(["xj!"], TOKENIZER, context=2) == [b[:2], [b[2], eos]]


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=20), st.integers(2, 12))
def test_rows_keep_every_token_but_one_that_would_stand_alone(texts: list[str], context: int) -> None:
    documents = [[*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id] for text in texts]
    rows = as_rows(texts, TOKENIZER, context=context)
    kept = [d if len(d) % context != 1 else d[:-1] for d in documents]
    assert [token for row in rows for token in row] == [token for document in kept for token in document]
    assert all(2 <= len(row) <= context for row in rows)
