"""Show curves in editors and dashboards while a stage trains. They change no result: nothing here is an output of a
stage, and no stage declares the section `live`, so that switching it re-runs nothing and a killed run resumes either
way.

What is shown is a function of the curve's rows. The first row that a process logs replaces what an earlier one left, so
that a resumed run, whose checkpoint may lie behind the points shown, doubles none.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from rlhf.core.errors import UserError
from rlhf.core.params import Section
from rlhf.core.processes import current

Kind = Literal["dvclive", "tensorboard"]
Row = Mapping[str, float | int | str | None]


class LiveParams(Section):
    """The programs that show curves while they grow."""

    to: list[Kind]


class Writer(Protocol):
    """One curve of one kind."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of one row."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


class _DVCLive:
    def __init__(self, folder: Path) -> None:
        library = import_module("dvclive")
        # It would rewrite dvc.yaml, make git commits and save experiments of its own.
        self._live: Any = library.Live(str(folder), report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()


_WRITERS: Mapping[str, type[_TensorBoard] | type[_DVCLive]] = {"dvclive": _DVCLive, "tensorboard": _TensorBoard}


class Live:
    """The curves that this process shows, under <folder>/<kind>/<curve>."""

    def __init__(self, folder: Path, kinds: Sequence[Kind]) -> None:
        """Raises UserError if a library that was asked for is not installed."""
        for kind in kinds:
            if find_spec(kind) is None:
                raise UserError(f"live.to: {kind} is not installed; `pip install {kind}`, or live.to=[]")
        self._folder, self._kinds = folder, kinds
        self._shown: dict[str, int] = {}  # rows of each curve
        self._writers: dict[str, list[Writer]] = {}

    def show(self, curve: str, rows: Sequence[Row]) -> None:
        """Show the rows of `curve` that are not shown yet. A full disk ends the showing, not the training."""
        with contextlib.suppress(OSError):
            if self._shown.get(curve) != len(rows) - 1 or curve not in self._writers:
                self._begin(curve)
            for number in range(self._shown[curve], len(rows)):
                step, values = _numbers(rows[number], number)
                for writer in self._writers[curve]:
                    writer.write(step, values)
            self._shown[curve] = len(rows)

    def _begin(self, curve: str) -> None:
        self._shown[curve], self._writers[curve] = 0, []
        for kind in self._kinds:
            shutil.rmtree(self._folder / kind / curve, ignore_errors=True)
            self._writers[curve].append(_WRITERS[kind](self._folder / kind / curve))


def _numbers(row: Row, number: int) -> tuple[int, dict[str, float]]:
    """Split a row into its step (the first column where that holds whole steps) and the other columns that hold
    numbers."""
    (first, step), *rest = row.items()
    values = {name: float(value) for name, value in rest if isinstance(value, int | float)}
    if isinstance(step, int):
        return step, values
    return number, values | ({first: float(step)} if isinstance(step, float) else {})


_current: list[Live] = []  # of this process: none or one


def start(folder: Path, kinds: Sequence[Kind]) -> None:
    """Show from now on every row that a curve of this process gets; no kinds show nothing.

    Raises:
        UserError: a library that was asked for is not installed.
    """
    _current[:] = [Live(folder, kinds)] if kinds and current().is_main else []


def show(curve: str, rows: Sequence[Row]) -> None:
    """Show a curve's new row; curves call it."""
    for live in _current:
        live.show(curve, rows)
