"""Documents to blocks of tokens for pretraining."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError


def pack(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, block: int) -> Int[Tensor, "N T"]:
    """The documents one after another, each ended by EOS, cut into blocks of `block` tokens; the rest is dropped.

    Nothing is padded, and a block may begin inside a document (GPT-2's way; Radford et al. 2019, section 2).

    Raises:
        UserError: the documents do not fill one block.
    """
    stream: list[int] = []
    for row in tokenizer(list(texts), add_special_tokens=False)["input_ids"]:
        stream.extend(row)
        stream.append(tokenizer.eos_token_id)
    count = len(stream) // block
    if count == 0:
        raise UserError(
            f"artifacts/prepare/corpus.jsonl: {len(texts)} documents give {len(stream)} tokens; base.pretrain.context "
            f"({block}) needs at least as many in the training and in the held-out part"
        )
    return torch.tensor(stream[: count * block]).reshape(count, block)
