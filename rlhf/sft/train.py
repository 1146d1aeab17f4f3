"""Train a LoRA adapter on responses of the pairs, over a frozen base."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.products import through_onednn
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import derive
from rlhf.models.policy.lora import lora_config
from rlhf.models.text.load import load_model
from rlhf.models.text.one_line import in_one_line
from rlhf.sft.examples import Example, collator, validation_batches
from rlhf.sft.params import LoraParams, SFTParams
from rlhf.training.order import training_order
from rlhf.training.token_loss import token_loss
from rlhf.training.trainer import ADAPTER, Fit, Plan, fit


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp(mean negative log-likelihood a token) of chosen test responses, EOS included."""

    before: float
    after: float


def with_adapter(base: Path, params: LoraParams, runtime: Runtime) -> PeftModel:
    """Load the base model, frozen, under a new LoRA adapter: A drawn, B zero, so that it starts as the base itself."""
    model = load_model(base, dtype=runtime.dtype, device=runtime.device)
    config = lora_config(
        model,
        rank=params.rank,
        alpha=params.alpha,
        dropout=params.dropout,
        targets=params.targets,
        base=base.as_posix(),
    )
    config.inference_mode = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(runtime.seed, "sft", "adapter"))
        with in_one_line(f"sft.lora.targets: peft puts no adapter on {', '.join(config.target_modules or [])}"):
            adapted = get_peft_model(model, config, adapter_name=ADAPTER)
    through_onednn(adapted)
    return adapted


def finetune(
    model: PeftModel,
    *,
    train: Sequence[Example],
    validation: Sequence[Example],
    pad_id: int,
    params: SFTParams,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Path,
) -> Fit:
    """Train the adapter in place, to its best loss on the validation examples. Only LoRA weights change.

    Raises:
        UserError: the loss became NaN.
        Stopped: a signal came; everything is saved.
    """
    batches = validation_batches(validation, params.batch_size, pad_id)
    order = training_order(
        [len(example) for example in train],
        epochs=params.epochs,
        batch=params.batch_size * params.accumulate,
        group_by_length=params.group_by_length,
        seed=runtime.seed,
        stream="sft",
    )
    return fit(
        model,
        examples=train,
        order=order,
        collate=collator(pad_id),
        validate=lambda trained: token_loss(trained, batches, runtime.device),
        plan=Plan.of(
            params,
            stream="sft",
            steps=len(order) // (params.batch_size * params.accumulate),
            lr=params.lr,
            accumulate=params.accumulate,
        ),
        runtime=runtime,
        checkpoints=checkpoints,
        curve=curve,
    )


def perplexity(
    model: PeftModel, examples: Sequence[Example], *, size: int, pad_id: int, runtime: Runtime
) -> Perplexity:
    """Measure the base alone and with the adapter, on the same examples."""
    batches = validation_batches(examples, size, pad_id)
    with model.disable_adapter():
        before = token_loss(model, batches, runtime.device)
    after = token_loss(model, batches, runtime.device)
    return Perplexity(math.exp(before), math.exp(after))
