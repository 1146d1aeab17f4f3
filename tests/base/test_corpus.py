from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from rlhf.base.pretrain import as_documents, packed
from tests.model_fixtures import byte_bpe

TOKENIZER = byte_bpe(300)


def test_each_document_ends_with_eos() -> None:
    eos = TOKENIZER.eos_token_id
    a, b = TOKENIZER("zq")["input_ids"], TOKENIZER("xj!")["input_ids"]
    assert (len(a), len(b)) == (2, 3)  # rare letters: one token each, so that what follows is by hand
    assert as_documents(["zq", "xj!"], TOKENIZER, context=4) == [[*a, eos], [*b, eos]]
    assert as_documents(["zq", "xj!"], TOKENIZER, context=3) == [[*a, eos], b]  # b's EOS would stand alone
    assert as_documents(["xj!"], TOKENIZER, context=2) == [b[:2], [b[2], eos]]


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5), st.integers(2, 12))
def test_documents_keep_every_token_but_one_that_would_stand_alone(texts: list[str], context: int) -> None:
    documents = [[*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id] for text in texts]
    rows = as_documents(texts, TOKENIZER, context=context)
    kept = [d if len(d) % context != 1 else d[:-1] for d in documents]
    assert [token for row in rows for token in row] == [token for document in kept for token in document]
    assert all(2 <= len(row) <= context for row in rows)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=12), st.integers(9, 20), st.integers(0, 3))
def test_rows_hold_whole_documents_and_each_once_a_pass(sizes: list[int], context: int, seed: int) -> None:
    documents = [[number * 100] * size for number, size in enumerate(sizes)]  # a document's tokens name it
    rows = list(islice(packed(documents, context=context, seed=seed), 40))
    assert all(len(row) <= context for row in rows)
    assert all(len(one) + sizes[nxt[0] // 100] > context for one, nxt in pairwise(rows))  # full
    seen = [token // 100 for row in rows for token in row]
    whole: list[int] = []
    while len(whole) < len(seen):
        number = seen[len(whole)]
        assert seen[len(whole) : len(whole) + sizes[number]] == [number] * min(sizes[number], len(seen) - len(whole))
        whole += [number] * sizes[number]
    first = seen[: sum(sizes)] if len(seen) >= sum(sizes) else seen
    assert all(first.count(number) in {0, sizes[number]} for number in range(len(sizes)))
