"""The validation loss, exact whatever the batches."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from rlhf.core.errors import UserError
from rlhf.core.processes import current
from rlhf.training.batches import IGNORED, Batch


def token_loss(model: nn.Module, batches: Sequence[Batch], device: torch.device) -> float:
    """Compute the mean negative log-likelihood of the labelled tokens, in nats a token.

    Every token weighs the same, so that neither padding nor the split into batches changes it. Labels IGNORED do
    not count; position t predicts label t + 1. Its exponential is the perplexity. The model runs in eval mode, and is
    put back into the mode it was in. Processes that share a run share the batches.

    Raises:
        UserError: no token is labelled.
    """
    training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for loss, tokens in current().map(batches, partial(_of_batch, model, device)):
            total, count = total + loss, count + int(tokens)
    model.train(training)
    if count == 0:
        raise UserError("validation loss: no labelled token in the validation examples")
    return total / count


def _of_batch(model: nn.Module, device: torch.device, batch: Batch) -> tuple[float, float]:
    """Sum the negative log-likelihoods of a batch's labelled tokens, and count these."""
    labels = batch["labels"][:, 1:].to(device)
    inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits[:, :-1]
    kept = labels != IGNORED
    losses = nn.functional.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
    return float(losses.double().sum()), int(kept.sum())
