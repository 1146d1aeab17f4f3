"""A batch cut into shards gives the loss and the gradients of the whole batch, whatever its loss is a mean over."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlhf.core.processes import ALONE
from rlhf.training.batches import IGNORED, Batch, response_batch
from rlhf.training.shards import Shards, rows_of
from rlhf.training.trainer import Exact
from rlhf.training.training_curve import Record

ROWS = [([1, 2], [3, 0]), ([4], [5, 6, 7, 8, 9, 0]), ([1, 3, 5], [0]), ([2], [2, 4, 0])]  # 2, 6, 1 and 3 labels
VOCAB = 10


def token_losses(weight: Tensor, batch: Batch) -> Tensor:
    """Minus the logprobs of the labels by a table of bigrams."""
    kept = batch["labels"][:, 1:] != IGNORED
    logits = weight[batch["input_ids"][:, :-1][kept]]
    return nn.functional.cross_entropy(logits, batch["labels"][:, 1:][kept], reduction="none")


class Library:
    """What a Trainer does in a step: divide by the labels of the whole step, if it is told them."""

    def training_step(self, model: Any, batch: Batch, items: int | None) -> Tensor:
        if "scores" in batch:
            loss = (model.weight[:2] @ batch["scores"].T).square().sum(0).mean()
        else:
            losses = token_losses(model.weight, batch)
            loss = losses.mean() if items is None else losses.sum() / items
        loss.backward()
        return loss.detach()


class Toy(Exact, Library):
    state = SimpleNamespace(global_step=0)


def gradient(tmp_path: Any, shards: int, batch: Batch, items: int | None) -> tuple[float, Tensor]:
    model = nn.Linear(VOCAB, VOCAB, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)))
    record = Record(tmp_path / "curve.csv", stream="toy", steps=1, log_every=1, eval_every=1, patience=0)
    toy = Toy(validate=lambda model: 0.0, record=record, shards=Shards(shards, ALONE, seed=0, stream="toy"))
    model.weight.grad = torch.ones(VOCAB, VOCAB)  # of an earlier forward of the same step
    loss = toy.training_step(model, batch, items)
    assert model.weight.grad is not None
    return float(loss), model.weight.grad - 1


@pytest.mark.parametrize("items", [12, None])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_of_ragged_rows_weigh_as_their_labels_do(tmp_path: Any, shards: int, items: int | None) -> None:
    """By hand: the mean over all 12 labels. The means of shards of 8 and of 4 labels average to another number."""
    batch = response_batch(ROWS, 0)
    loss, found = gradient(tmp_path, shards, batch, items)
    weight = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole = token_losses(weight, batch).sum() / 12
    (wanted,) = torch.autograd.grad(whole, weight)
    assert loss == pytest.approx(float(whole.detach()), rel=1e-6)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    halves = [token_losses(weight, {name: rows_of(value, half, 2) for name, value in batch.items()}) for half in (0, 1)]
    assert abs(float((halves[0].mean() + halves[1].mean()).detach() / 2) - loss) > 1e-3


@pytest.mark.parametrize("shards", [2, 4])
def test_shards_without_labels_weigh_as_their_examples_do(tmp_path: Any, shards: int) -> None:
    batch = {"scores": torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(1))}
    (loss, found), (alone, wanted) = (gradient(tmp_path, count, batch, None) for count in (shards, 1))
    assert loss == pytest.approx(alone, rel=1e-6)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_rows_that_cannot_be_cut_equally_are_an_error() -> None:
    assert rows_of(torch.arange(6), 1, 2).tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="6 rows cannot be cut into 4 equal parts"):
        rows_of(torch.arange(6), 0, 4)
