"""Train by RRHF: rank n responses by their rewards, and move the policy's own likelihoods into that order.

Yuan et al. 2023 (arXiv 2304.05302), eq. 2 to 5.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rlhf.core.processes import current
from rlhf.training.batches import IGNORED, Batch
from rlhf.training.trainer import ExactTrainer


def rrhf_loss(
    logprobs: Float[Tensor, "B K R"], mask: Bool[Tensor, "B K R"], scores: Float[Tensor, "B K"], *, sft_coef: float
) -> Float[Tensor, " B"]:
    """Compute each prompt's loss from the logprobs (nats) of the tokens of its K responses; masked entries are 0.

    p_i is the mean logprob a token of response i (eq. 2). Where r_i < r_j, max(0, p_i - p_j) is lost (eq. 3), and
    `sft_coef` times the negative log-likelihood of the response with the highest score (eq. 4 and 5, where the
    coefficient is 1), here a mean over its tokens as in the authors' code, where the paper writes the sum.
    """
    likelihoods = logprobs.sum(-1) / mask.sum(-1).clamp_min(1)
    worse = scores.unsqueeze(2) < scores.unsqueeze(1)  # [b, i, j]: r_i < r_j
    excess = (likelihoods.unsqueeze(2) - likelihoods.unsqueeze(1)).clamp_min(0)
    ranking = (excess * worse).sum((1, 2))
    top = likelihoods.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
    return ranking - sft_coef * top


class RRHFTrainer(ExactTrainer):
    """The Trainer with RRHF's loss, averaged over prompts."""

    def __init__(self, *, sft_coef: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False  # a mean over prompts, whatever the number of tokens
        self._sft_coef = sft_coef

    def weight_of(self, part: Batch, inputs: Batch) -> float:
        """Weigh a part of a batch by its prompts."""
        return len(part["scores"]) / len(inputs["scores"])

    def compute_loss(self, model: nn.Module, inputs: Batch, *args: Any, **kwargs: Any) -> Tensor:
        """Compute the loss of one batch that `rlhf.offline.examples.collator` made."""
        return batch_loss(model, inputs, sft_coef=self._sft_coef).mean()


def batch_loss(model: nn.Module, batch: Batch, *, sft_coef: float) -> Float[Tensor, " B"]:
    """Compute each prompt's loss of a batch of B K rows."""
    labels = batch["labels"][:, 1:]
    mask = labels != IGNORED
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    picked = nn.functional.cross_entropy(logits[mask].float(), labels[mask], reduction="none")
    logprobs = logits.new_zeros(mask.shape, dtype=torch.float32).masked_scatter(mask, -picked)
    shape = (*batch["scores"].shape, -1)
    return rrhf_loss(logprobs.view(shape), mask.view(shape), batch["scores"], sft_coef=sft_coef)


@torch.no_grad()
def validation_rrhf(model: nn.Module, batches: Sequence[Batch], device: torch.device, *, sft_coef: float) -> float:
    """Compute the mean loss a prompt over validation batches, which processes that share a run share."""

    def of(batch: Batch) -> list[float]:
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        found: list[float] = batch_loss(model, on_device, sft_coef=sft_coef).double().tolist()
        return found

    training = model.training
    model.eval()
    losses: list[float] = list(chain(*current().map(batches, of)))
    model.train(training)
    return sum(losses) / len(losses)
