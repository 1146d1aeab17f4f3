"""Stages and runs that only pretend, in no time: what studies do around them is what is tested."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import write_json, write_text
from studies import command, runner
from studies.run import Run, project_stages

Act = Callable[[str], None]


def write_outs(stage: str, text: str = "made") -> None:
    """Write what a stage declares, in the folder that it was called in."""
    for out in project_stages()[stage].outs:
        if out.parts[0] == "metrics":
            write_json(out, {f"{stage}_text": text})
        else:
            write_text(out if out.suffix else out / "file", text)


def pretend_stages(monkeypatch: pytest.MonkeyPatch, calls: Path, act: Act = write_outs) -> Callable[[], list[str]]:
    """Replace every stage's command by `act`. Gives a function that lists what was called since last asked."""

    def command_of(stage: str) -> Callable[[], None]:
        def main() -> None:
            with calls.open("a", encoding="utf-8") as file:
                file.write(f"{Path.cwd().name}: {stage}\n")
            act(stage)

        return main

    def called() -> list[str]:
        lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return lines

    monkeypatch.setattr(runner, "command_of", command_of)
    monkeypatch.setattr(runner, "warm_up", lambda: None)
    return called


def pretend_make(monkeypatch: pytest.MonkeyPatch, act: Callable[[Run], dict[str, Any]]) -> list[Run]:
    """Replace the runner: `act` writes a run's files and gives its metrics. Gives the list of runs asked for."""
    asked: list[Run] = []

    def make(runs: Iterable[Run], processes: int) -> Iterator[Run]:
        for run in runs:
            asked.append(run)
            outs = [out for stage in (*run.shared, *run.stages) for out in run.outs(stage)]
            names = [out for out in outs if out.parts[0] == "metrics"]
            for out in names:
                write_json(run.folder / out, {})
            write_json(run.folder / names[-1], act(run))
            yield run

    monkeypatch.setattr(command, "make", make)
    return asked
