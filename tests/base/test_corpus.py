import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.base.pretrain import pack
from rlhf.core.errors import UserError
from tests.model_fixtures import byte_bpe

TOKENIZER = byte_bpe(300)


def test_documents_are_packed_with_eos_between_them() -> None:
    eos = TOKENIZER.eos_token_id
    a, b = TOKENIZER("zq")["input_ids"], TOKENIZER("xj!")["input_ids"]
    blocks = pack(["zq", "xj!"], TOKENIZER, block=3)
    stream = [*a, eos, *b, eos]
    assert (len(a), len(b)) == (2, 3)  # rare letters: one token each, so that what follows is by hand
    assert blocks.tolist() == [stream[:3], stream[3:6]]  # the seventh token fills no block


@given(st.lists(st.text(min_size=0, max_size=30), min_size=1, max_size=20), st.integers(1, 12))
def test_packing_keeps_the_stream(texts: list[str], block: int) -> None:
    stream = [token for text in texts for token in [*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id]]
    if len(stream) < block:
        with pytest.raises(UserError, match=r"needs at least as many"):
            pack(texts, TOKENIZER, block=block)
        return
    blocks = pack(texts, TOKENIZER, block=block)
    assert blocks.dtype == torch.int64
    assert blocks.flatten().tolist() == stream[: len(stream) // block * block]
