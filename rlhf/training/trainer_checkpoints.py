"""Checkpoints of transformers' Trainer, made safe: sealed when whole, and resumed only if whole.

The Trainer writes `checkpoint-<step>/` file by file. A kill can leave half of one, so it counts only once a manifest
with the SHA-256 of its files lies in it (`rlhf.core.checkpoint.seal`). A checkpoint also needs the checkpoint that
was the best up to its step, because the end of the run loads it.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlhf.core.checkpoint import Checkpoints, discard, seal, sealed
from rlhf.core.processes import current
from rlhf.training.interrupt import Stop
from rlhf.training.training_curve import Record

_KEEP = 2  # newest checkpoints: if one is broken, the other is used
_PICKLED = "training_args.bin"  # written by the library, and never read


class Keeper(TrainerCallback):
    """Decides when to save, seals what was saved, removes what is old, and stops at a signal."""

    def __init__(self, checkpoints: Checkpoints, stop: Stop, record: Record) -> None:
        self._checkpoints, self._stop, self._record = checkpoints, stop, record

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Point to the best checkpoint in this workspace: its path was written where the run began."""
        if state.best_model_checkpoint is not None:
            state.best_model_checkpoint = str(self._checkpoints.folder / Path(state.best_model_checkpoint).name)
        # Killed after the last step of a run that patience ended: one more step would change the result.
        control.should_training_stop = self._record.out_of_patience()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count an optimiser step, and tell the library to validate, save or stop."""
        step = state.global_step
        self._record.end_step(step)
        if self._record.validates(step):
            control.should_evaluate = True
        due = self._stop.agree(self._checkpoints.due(step))
        if due or self._stop.requested:
            control.should_save = True
        if self._stop.requested:
            control.should_training_stop = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Tell the library to save a new best (it has not compared yet), and to stop when patience is over."""
        if kwargs["metrics"]["eval_loss"] < (math.inf if state.best_metric is None else state.best_metric):
            control.should_save = True
        if self._record.out_of_patience():
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Complete and seal the checkpoint that the library has written, and remove those that nothing needs."""
        if current().is_main:
            self._complete(self._checkpoints.folder / f"checkpoint-{state.global_step}")
        self._checkpoints.note_saved(state.global_step)
        current().wait()  # the others may be about to read it

    def _complete(self, folder: Path) -> None:
        (folder / _PICKLED).unlink(missing_ok=True)
        self._record.save(folder)
        seal(folder)
        newest = _folders(folder.parent)[:_KEEP]
        needed = {*newest, *(best for kept in newest if (best := _best(kept)) is not None)}
        for old in _folders(folder.parent):
            if old not in needed:
                shutil.rmtree(old, ignore_errors=True)


def newest_whole(root: Path) -> Path | None:
    """Find the newest checkpoint that can be resumed, or None. Those that cannot are named on stderr and removed."""
    folders = _folders(root)
    whole = [folder for folder in folders if sealed(folder)]
    usable = [folder for folder in whole if _best(folder) in (None, *whole)]
    for folder in folders:
        if not usable or _step(folder) > _step(usable[0]):
            discard(folder, usable[0] if usable else None)
        elif folder not in whole:  # an old one, half removed when a kill came
            shutil.rmtree(folder, ignore_errors=True)
    return usable[0] if usable else None


def _best(folder: Path) -> Path | None:
    """Find the checkpoint that was the best when `folder` was saved."""
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    best = state["best_model_checkpoint"]
    return None if best is None else folder.parent / Path(best).name


def _folders(root: Path) -> list[Path]:
    """List the library's checkpoint folders, newest first."""
    found = [folder for folder in root.glob("checkpoint-*") if folder.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("checkpoint-"))
