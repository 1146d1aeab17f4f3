"""Pretrain a small GPT-2 from scratch, so that the offline default needs no download."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
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

_VALIDATION_BLOCKS = 32  # in one forward


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
    """Train a GPT-2 on the packed documents; whole documents are kept for validation.

    Raises:
        UserError: the documents do not fill a block; the loss became NaN.
        Stopped: a signal came; everything is saved.
    """
    train_texts, validation_texts = split_documents(texts, validation_share=params.validation_share, seed=runtime.seed)
    train = pack(train_texts, tokenizer, block=params.context)
    validation = pack(validation_texts, tokenizer, block=params.context)
    batches = in_batches(list(validation), _VALIDATION_BLOCKS, as_batch)
    model = new_model(params, tokenizer, seed=runtime.seed)
    result = fit(
        model,
        examples=list(train),
        order=block_order(len(train), params.steps * params.batch_size, seed=runtime.seed),
        collate=as_batch,
        validate=lambda trained: token_loss(trained, batches, runtime.device),
        plan=Plan.of(params, stream="base", steps=params.steps, lr=params.lr),
        runtime=runtime,
        checkpoints=checkpoints,
        curve=curve,
    )
    return Pretrained(model, result.best_step, result.train_loss, result.validation_loss, train.numel())


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


def block_order(blocks: int, count: int, *, seed: int) -> list[int]:
    """Draw `count` block indices: every block once, then all again in another order."""
    order: list[int] = []
    while len(order) < count:
        epoch = len(order) // blocks
        order.extend(torch.randperm(blocks, generator=generator(seed, "base", "order", epoch)).tolist())
    return order[:count]


def as_batch(rows: list[Int[Tensor, " T"]]) -> Batch:
    """Make a batch of blocks in which every token but the first is predicted.

    The first is masked although no position predicts it: transformers divides the loss by the number of labels, and
    counts it for models whose class name does not say that they shift labels (GPT2LMHeadModel).
    """
    ids = torch.stack(rows)
    labels = ids.clone()
    labels[:, 0] = IGNORED
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def pack(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, block: int) -> Int[Tensor, "N T"]:
    """Join the documents, each ended by EOS, and cut them into blocks of `block` tokens; the rest is dropped.

    Nothing is padded, and a block may begin inside a document (GPT-2's way; Radford et al. 2019, section 2).

    Raises:
        UserError: the documents do not fill one block.
    """
    stream: list[int] = []
    control = pattern(control_tokens(tokenizer))
    for text, row in zip(texts, tokenizer(list(texts), add_special_tokens=False)["input_ids"], strict=True):
        stream.extend(text_ids(tokenizer, text) if control.search(text) else row)  # no EOS but at the end
        stream.append(tokenizer.eos_token_id)
    count = len(stream) // block
    if count == 0:
        raise UserError(
            f"artifacts/prepare/corpus.jsonl: {len(texts)} documents give {len(stream)} tokens; base.pretrain.context "
            f"({block}) needs at least as many in the training and in the held-out part"
        )
    return torch.tensor(stream[: count * block]).reshape(count, block)
