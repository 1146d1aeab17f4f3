"""Train on from the SFT adapter: the order of examples, the plan and the curve that all trained methods share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.models.policy.lora import check_complete
from rlhf.models.text.load import load_model
from rlhf.models.text.one_line import in_one_line
from rlhf.offline.examples import Candidates
from rlhf.offline.params import SharedParams, TrainedParams
from rlhf.training.batches import Batch
from rlhf.training.order import training_order
from rlhf.training.trainer import ADAPTER, Fit, Plan, fit

CURVE = "curve.csv"


@dataclass(frozen=True, slots=True)
class Job:
    """One method's training, without its data and its loss."""

    method: str
    params: TrainedParams
    shared: SharedParams
    runtime: Runtime
    checkpoints: Checkpoints

    @property
    def curve(self) -> Path:
        """Return the file of the training curve while it grows; it ends beside the adapter."""
        return self.checkpoints.folder / CURVE

    def order(self, train: Sequence[Candidates]) -> list[int]:
        """Draw the order in which the examples are trained on, as indices."""
        return training_order(
            [len(example) for example in train],
            epochs=self.params.epochs,
            batch=self.shared.batch_size * self.shared.accumulate,
            group_by_length=self.shared.group_by_length,
            seed=self.runtime.seed,
            stream=f"offline.{self.method}",
        )

    def fit(
        self,
        model: PeftModel,
        train: Sequence[Candidates],
        *,
        collate: Callable[[list[Candidates]], Batch],
        validate: Callable[[nn.Module], float],
        **loss: Any,
    ) -> Fit:
        """Train in place to the lowest validation loss; `loss` goes to `rlhf.training.trainer.fit`."""
        order, shared = self.order(train), self.shared
        plan = Plan.of(
            shared,
            stream=f"offline.{self.method}",
            steps=len(order) // (shared.batch_size * shared.accumulate),
            lr=self.params.lr,
            accumulate=shared.accumulate,
        )
        return fit(
            model,
            examples=train,
            order=order,
            collate=collate,
            validate=validate,
            plan=plan,
            runtime=self.runtime,
            checkpoints=self.checkpoints,
            curve=self.curve,
            **loss,
        )

    def tokens_trained(self, train: Sequence[Candidates]) -> int:
        """Count the response tokens that go through forward and backward passes."""
        return sum(train[index].response_tokens for index in self.order(train))


def sft_policy(at: Layout, runtime: Runtime) -> PeftModel:
    """Load the base model, frozen, under the SFT adapter, which is trainable.

    Raises:
        UserError: there is no adapter, or it does not fit the base model.
    """
    if not (at.sft / "adapter_model.safetensors").is_file():
        raise UserError(f"{at.sft}: no adapter_model.safetensors; the stage sft writes it")
    model = load_model(at.base, dtype=runtime.dtype, device=runtime.device)
    with in_one_line(f"{at.sft}: the adapter does not fit the base model"):
        adapted = PeftModel.from_pretrained(model, str(at.sft), adapter_name=ADAPTER, is_trainable=True)
    check_complete(adapted, ADAPTER, at.sft)
    return adapted
