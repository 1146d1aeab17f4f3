"""The training curve: rows at fixed steps, so that it does not show when a run was saved or stopped."""

import json
import math
from pathlib import Path
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from rlhf.core.artifacts import write_text
from rlhf.core.curves import Curve
from rlhf.core.errors import UserError
from rlhf.core.progress import track

_STATE = "curve.json"  # beside the library's files in a checkpoint


class Record:
    """Collects training losses into rows of the curve, and shows progress."""

    def __init__(self, path: Path, *, stream: str, steps: int, log_every: int, eval_every: int, patience: int) -> None:
        self.last_train_loss: float | None = None  # of the curve's last row: mean over its steps
        self._stream, self._steps, self._log_every, self._eval_every = stream, steps, log_every, eval_every
        self._patience = patience
        self._curve = Curve(path)
        self._total: Tensor | float = 0.0  # float64; stays on its device until a row or a checkpoint needs it
        self._step, self._since = 0, 0  # steps done, steps since the last row
        self._forwards = 0  # since the last step
        self._bar: tqdm[NoReturn] | None = None

    @property
    def step(self) -> int:
        """Return the number of steps done."""
        return self._step

    def __enter__(self) -> "Record":
        """Show progress, and the curve as it stands: after a kill the file may be newer than the checkpoint."""
        self._curve.write()
        self._bar = track(self._steps, self._stream, initial=self._step)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def forwards(self) -> int:
        """Return the number of forwards since the last step."""
        return self._forwards

    def add(self, loss: Tensor) -> None:
        """Add one forward's share of the step's loss."""
        self._forwards += 1
        self._total = self._total + loss.double()

    def end_step(self, step: int) -> None:
        """Count a step, and write its row if one is due and no validation is about to write it."""
        self._step, self._since, self._forwards = step, self._since + 1, 0
        if self._bar is not None:
            self._bar.update()
        if step % self._log_every == 0 and not self.validates(step):
            self.write_row(None)

    def validates(self, step: int) -> bool:
        """Tell whether this step ends with a validation: every `eval_every` steps and at the end."""
        return step % self._eval_every == 0 or step == self._steps

    def out_of_patience(self) -> bool:
        """Tell whether `patience` validations have come since the lowest loss; never if `patience` is 0."""
        losses = [float(row["validation_loss"]) for row in self._curve.rows if row["validation_loss"] is not None]
        return bool(self._patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= self._patience

    def write_row(self, validation_loss: float | None) -> None:
        """Append the mean training loss since the last row, and a validation loss if there is one.

        Raises:
            UserError: one of them is not finite.
        """
        self.last_train_loss = self._checked_total() / max(self._since, 1)
        self._total, self._since = 0.0, 0
        if validation_loss is not None and not math.isfinite(validation_loss):
            raise UserError(
                f"{self._stream}: the validation loss became {validation_loss} at step {self._step}; lower lr"
            )
        self._curve.append({"step": self._step, "train_loss": self.last_train_loss, "validation_loss": validation_loss})
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {self.last_train_loss:.3f}", refresh=False)

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint, floats at full precision.

        Raises:
            UserError: a training loss since the last row is not finite.
        """
        total = self._checked_total()
        state = {
            "step": self._step,
            "total": total,
            "since": self._since,
            "last": self.last_train_loss,
            "rows": self._curve.rows,
        }
        write_text(folder / _STATE, json.dumps(state, allow_nan=False))

    def restore(self, folder: Path) -> None:
        """Read the state from a checkpoint."""
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        self._step, self._since = state["step"], state["since"]
        self._total, self.last_train_loss = state["total"], state["last"]
        self._curve.rows = state["rows"]

    def _checked_total(self) -> float:
        """Sum the losses since the last row; raise UserError if the sum is not finite, so that nothing bad is saved."""
        total = float(self._total)
        if not math.isfinite(total):
            first = self._step - self._since + 1
            raise UserError(
                f"{self._stream}: the training loss became {total} between steps {first} and {self._step}; "
                f"lower {self._stream}'s lr or grad_clip, and run again"
            )
        return total
