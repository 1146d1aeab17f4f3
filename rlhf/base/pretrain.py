"""Pretrain a small GPT-2 from scratch, so that the offline default needs no download."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from rlhf.base.params import PretrainParams
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.products import through_onednn
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import derive, generator
from rlhf.models.text.control import control_tokens, pattern, text_ids
from rlhf.models.text.corpus_split import split_documents
from rlhf.training.batches import IGNORED, Batch, in_batches
from rlhf.training.token_loss import token_loss
from rlhf.training.trainer import Plan, fit

_VALIDATION_ROWS = 128  # in one forward


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The model at its best step, with losses in nats a token."""

    model: GPT2LMHeadModel
    best_step: int
    train_loss: float
    validation_loss: float
    train_tokens: int  # in the corpus

    @property
    def perplexity(self) -> float:
        """Return the perplexity a token on the validation documents."""
        return math.exp(self.validation_loss)


def pretrain(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    params: PretrainParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Path,
) -> Pretrained:
    """Train a GPT-2 on rows of whole documents; some documents are kept for validation, each alone in its row.

    No document is cut to fill a row (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"), and every row
    begins with one, as prompts do. Blocks of a stream that begin and end inside documents (Radford et al. 2019, section
    2) took more than twice the tokens to the same loss: docs/lab-notes.md.

    Raises:
        UserError: no document holds two tokens; the loss became NaN.
        Stopped: a signal came; everything is saved.
    """
    train_texts, validation_texts = split_documents(texts, validation_share=params.validation_share, seed=runtime.seed)
    train = as_documents(train_texts, tokenizer, context=params.context)
    validation = as_documents(validation_texts, tokenizer, context=params.context)
    collate = partial(as_batch, pad_id=tokenizer.pad_token_id)
    batches = in_batches(validation, _VALIDATION_ROWS, collate)
    needed = params.steps * params.batch_size
    rows = list(islice(packed(train, context=params.context, seed=runtime.seed), needed))
    model = new_model(params, tokenizer, seed=runtime.seed)
    result = fit(
        model,
        examples=rows,
        order=range(needed),
        collate=collate,
        validate=lambda trained: token_loss(trained, batches, runtime.device),
        plan=Plan.of(params, stream="base", steps=params.steps, lr=params.lr),
        runtime=runtime,
        checkpoints=checkpoints,
        curve=curve,
    )
    return Pretrained(model, result.best_step, result.train_loss, result.validation_loss, sum(map(len, train)))


def new_model(params: PretrainParams, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> GPT2LMHeadModel:
    """Make a GPT-2 with drawn weights (N(0, init_range), residual projections scaled by 1/sqrt(2 layers)), no
    dropout."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=params.context,
        n_embd=params.width,
        n_layer=params.layers,
        n_head=params.heads,
        activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, in one kernel
        initializer_range=params.init_range,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "base", "weights"))
        model = GPT2LMHeadModel(config)
    through_onednn(model)
    return model


def as_batch(rows: Sequence[list[int]], pad_id: int) -> Batch:
    """Make a batch of rows in which every token but the first is predicted; (B, T), padded on the right.

    The first is masked although no position predicts it: transformers divides the loss by the number of labels, and
    counts it for models whose class name does not say that they shift labels (GPT2LMHeadModel). There is no attention
    mask: attention is causal and all padding comes last, so that no token sees any.
    """
    ids = [torch.tensor(row) for row in rows]
    labels = [torch.tensor([IGNORED, *row[1:]]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def as_documents(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, context: int) -> list[list[int]]:
    """Encode the documents, each ended by EOS; one that is longer than `context` tokens is cut into several.

    A single token at the end of a cut has nothing before it to be predicted from, and is dropped.

    Raises:
        UserError: none is left.
    """
    rows: list[list[int]] = []
    control = pattern(control_tokens(tokenizer))
    for text, found in zip(texts, tokenizer(list(texts), add_special_tokens=False)["input_ids"], strict=True):
        ids = text_ids(tokenizer, text) if control.search(text) else found  # no EOS but at the end
        document = [*ids, tokenizer.eos_token_id]
        pieces = (document[start : start + context] for start in range(0, len(document), context))
        rows.extend(piece for piece in pieces if len(piece) > 1)
    if not rows:
        raise UserError(
            f"artifacts/prepare/corpus.jsonl: none of {len(texts)} documents holds two tokens, in the training "
            "or in the held-out part"
        )
    return rows


def packed(documents: Sequence[list[int]], *, context: int, seed: int) -> Iterator[list[int]]:
    """Yield rows of at most `context` tokens: whole documents in a drawn order, as many as fit, without end.

    Every pass over the documents has another order. A pass may end in the middle of a row.
    """
    row: list[int] = []
    for epoch in count():
        for index in torch.randperm(len(documents), generator=generator(seed, "base", "order", epoch)).tolist():
            if row and len(row) + len(documents[index]) > context:
                yield row
                row = []
            row = [*row, *documents[index]]
