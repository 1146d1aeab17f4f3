"""Make runs: their steps in processes, at most so many at once, what is done left alone.

A step is forked from this process, which has imported the libraries and the code before; one whose cost is measured
gets a new process. Killed at any moment, the same call goes on: steps that were done stay done, and a stage resumes
from its own checkpoints.
"""

import contextlib
import fcntl
import functools
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rlhf.core import portable
from rlhf.core.artifacts import write_text
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.params import read_resolved
from rlhf.core.provenance import record_again
from studies.folder import connect, furnish, remove
from studies.marks import code_in_memory, is_done, version
from studies.run import CODE, PROJECT, ROOT, TAMPER, Run, project_stages

# Linear algebra takes a core a process, or two stages at once would wait for each other. Read when numpy is imported,
# so that studies import it, and torch, only where they use it.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}


def make(runs: Iterable[Run], processes: int) -> Iterator[Run]:
    """Make runs and those that they start from, and yield each as soon as all of its steps are done.

    Raises:
        UserError: a run cannot be set up (before anything runs), or, when all else is done, a step failed: its last
            lines are in the message.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    waiting = _with_starts(runs)
    for run in waiting:
        furnish(run)
    if any(read_resolved(run.resolved)["runtime"]["portable"] for run in waiting) and (note := portable.apply()):
        print(f"note: {note}", file=sys.stderr)
    crew, made, failed = _Crew(), {PROJECT.folder}, dict[Path, str]()
    try:
        while waiting or crew.busy:
            for run in [run for run in waiting if run.start is not None and run.start.folder in failed]:
                waiting.remove(run)
                failed[run.folder] = f"{run.folder.name}: needs {run.start.folder.name}" if run.start else ""
            ready = [run for run in waiting if run.start is None or run.start.folder in made]
            for run in ready[: processes - len(crew.busy)]:
                waiting.remove(run)
                crew.take(run)
            for run, reason in crew.ended():
                print(f"{run.folder.name}: {'FAILED' if reason else 'done'}, {len(waiting)} waiting", file=sys.stderr)
                if reason:
                    failed[run.folder] = reason
                else:
                    made.add(run.folder)
                    yield run
    finally:
        crew.stop()
    if failed:
        raise UserError("\n".join(failed.values()))


class _Crew:
    """The processes at work, a run each."""

    def __init__(self) -> None:
        self.busy: dict[BaseProcess, tuple[Run, str]] = {}
        self._over: list[tuple[Run, str]] = []

    def take(self, run: Run, after: str = "") -> None:
        """Start the first step of a run, or the first after `after`, that is not done."""
        try:
            for step in run.steps[run.steps.index(after) + 1 if after else 0 :]:
                connect(run)
                if not is_done(run, step):
                    process = _process(run, step)
                    process.start()
                    self.busy[process] = (run, step)
                    return
            self._over.append((run, ""))
        except UserError as error:
            self._over.append((run, str(error)))

    def ended(self) -> list[tuple[Run, str]]:
        """Runs that came to an end, and why if a step failed. Waits for a step to end if no run has."""
        if self.busy and not self._over:
            wait([process.sentinel for process in self.busy])
        for process in [one for one in self.busy if not one.is_alive()]:
            process.join()
            run, step = self.busy.pop(process)
            if process.exitcode:
                self._over.append((run, _reason(run, step, process.exitcode)))
            else:
                self.take(run, step)
        over, self._over = self._over, []
        return over

    def stop(self) -> None:
        """Ask the stages to save and stop, and wait for them."""
        for process in self.busy:
            process.terminate()
        for process in self.busy:
            process.join()


@functools.cache
def warm_up() -> None:
    """Import libraries and all code that stages declare, once for all forks; from here on that code is what runs."""
    import accelerate  # noqa: F401 - forks find it in memory
    import torch
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401 - as above

    torch.set_num_threads(1)  # threads do not survive a fork
    code_in_memory.cache_clear()
    for stage, spec in project_stages().items():
        code_in_memory(stage)
        for folder in (ROOT / dep for dep in spec.deps if dep.parts[0] in CODE):
            for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def command_of(stage: str) -> Callable[[], Any]:
    """A stage's command, as `python -m stages.<name>` runs it in the folder it is called in."""
    name, _, item = stage.partition("@")
    main = importlib.import_module(f"stages.{name}").main
    return lambda: main.main(args=[item] if item else [], standalone_mode=False)


def _with_starts(runs: Iterable[Run]) -> list[Run]:
    """The runs, each after the one that it starts from, each folder once."""
    plan: dict[Path, Run] = {}
    for run in runs:
        chain = [run]
        while chain[-1].start is not None:
            chain.append(chain[-1].start)
        for one in reversed(chain):
            known = plan.setdefault(one.folder, one)
            if (known.changes, known.steps) != (one.changes, one.steps):
                raise ValueError(f"{one.folder}: two runs would be made there")
    return [run for run in plan.values() if run is not PROJECT]


def _process(run: Run, step: str) -> BaseProcess:
    alone = run.measured or bool(run.under)
    if not alone:
        warm_up()
    context: Any = multiprocessing.get_context("spawn" if alone else "fork")
    process: BaseProcess = context.Process(target=_perform, args=(run, step, version(run, step), run.outs(step)))
    return process


def _perform(run: Run, step: str, now: str, outs: tuple[Path, ...]) -> None:
    """Do one step in its folder, in a process of its own, and mark it as done."""
    os.setpgid(0, 0)  # a Ctrl-C reaches the study alone, which then asks its stages to stop
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _alone(run.folder):
        _log_to(run.folder / "log.txt")
        os.chdir(run.folder)
        mark = run.mark(step)
        if mark.is_file() and mark.read_text(encoding="utf-8") == now and all(out.exists() for out in outs):
            return  # made by another study that shares the folder
        start = time.perf_counter()
        print(f"== {step}", flush=True)
        mark.unlink(missing_ok=True)
        for out in outs:
            remove(run.folder, out)
        # No part of what other code or parameters made is resumed, whatever files look like by now.
        os.environ["RLHF_CHECKPOINT_DIR"] = str(run.folder / ".checkpoints" / now)
        if step == TAMPER:
            _tamper(run)
        elif run.under:
            name, _, item = step.partition("@")
            subprocess.run([*run.under, sys.executable, "-m", f"stages.{name}", *filter(None, [item])], check=True)
        else:
            command_of(step)()
        shutil.rmtree(run.folder / ".checkpoints", ignore_errors=True)
        print(f"{step}: {time.perf_counter() - start:.1f} s", flush=True)
        write_text(mark, now)


def _tamper(run: Run) -> None:
    """Copy what is edited from the run that this one starts from, edit it, and have its records say so."""
    if run.tamper is None or run.start is None:
        raise ValueError(f"{run.folder.name}: nothing to tamper with")
    for out in run.tamper.outs:
        source, copy = run.start.folder / out, run.folder / out
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)
    run.tamper.edit(Layout(), int(read_resolved(Layout().resolved)["seed"]))
    for record in [Path(out) for out in run.tamper.outs if out.startswith("provenance/")]:
        record_again(record)


def _log_to(path: Path) -> None:
    """Append to a file what this process and those it starts print from here on."""
    log = path.open("a", encoding="utf-8", buffering=1)
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    sys.stdout = sys.stderr = log


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is at work in the folder: another study, or a step that outlived its own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: waiting for another process that is at work there", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _reason(run: Run, step: str, status: int) -> str:
    """Say why a step failed: the last lines of its log."""
    lines = (run.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    last = lines[max((number for number, line in enumerate(lines) if line == f"== {step}"), default=-1) + 1 :][-3:]
    return f"{run.folder}: {step} ended with status {status}: {' | '.join(last)}"
