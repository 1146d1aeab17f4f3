"""The validation loss, exact whatever the batches."""

from collections.abc import Sequence

import torch
from torch import nn

from rlhf.core.errors import UserError
from rlhf.training.batches import IGNORED, Batch


def token_loss(model: nn.Module, batches: Sequence[Batch], device: torch.device) -> float:
    """Compute the mean negative log-likelihood of the labelled tokens, in nats a token.

    Every token weighs the same, so that neither padding nor the split into batches changes it. Labels IGNORED do
    not count; position t predicts label t + 1. Its exponential is the perplexity. The model runs in eval mode, and is
    put back into the mode it was in.

    Raises:
        UserError: no token is labelled.
    """
    training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            labels = batch["labels"][:, 1:].to(device)
            inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
            logits = model(**inputs).logits[:, :-1]
            kept = labels != IGNORED
            losses = nn.functional.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
            total += float(losses.double().sum())
            count += int(kept.sum())
    model.train(training)
    if count == 0:
        raise UserError("validation loss: no labelled token in the validation examples")
    return total / count
