"""Share what every stage's command needs: its sections, its checkpoint folder, its end, one-line errors, clean stops.

Nothing heavy is imported here: `python -m stages.<name> --help` answers at once.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlhf.core.errors import Stopped
from rlhf.core.layout import Layout
from rlhf.core.terminal import safe_streams

if TYPE_CHECKING:
    from pydantic import BaseModel

    from rlhf.core.checkpoint import Checkpoints
    from rlhf.core.costs import Meter
    from rlhf.core.dag import StageSpec
    from rlhf.core.launcher import Shared
    from rlhf.core.runtime import Runtime

    S = TypeVar("S", bound=BaseModel)


UNDECLARED = ("live", "launch")  # sections that change no result: no stage declares them


class Run:
    """One run of one stage: its parameters, its place on disk, its process.

    `variant` is the item of a stage that dvc.yaml repeats with `foreach`, empty for all others.
    """

    def __init__(self, stage: str, variant: str = "") -> None:
        self.stage, self.variant = (f"{stage}@{variant}" if variant else stage), variant
        self.layout = Layout()
        self._sections: dict[str, object] = {}
        self._checkpoints: Checkpoints | None = None
        self._resumed = False

    def fix_instruction_set(self) -> None:
        """Make this process portable where `runtime.portable` asks for it; before torch or numpy is imported."""
        from rlhf.core.artifacts import read_json
        from rlhf.core.portable import apply

        resolved = read_json(self.layout.resolved) if self.layout.resolved.is_file() else {}
        if self.stage != "resolve" and resolved.get("runtime", {}).get("portable") and (note := apply()):
            click.echo(f"note: {note}", err=True)

    def check_start(self) -> None:
        """Raise UserError where parameters or inputs are not those that the user has now; see `rlhf.core.start`."""
        from rlhf.core.start import check_start

        if note := check_start(self.layout):
            click.echo(f"note: {note}", err=True)

    def section(self, name: str, cls: "type[S]") -> "S":
        """The resolved section `name`, validated. Tests hold the names used here equal to dvc.yaml's `params`."""
        from rlhf.core.params import read_section

        section = read_section(self.layout.resolved, name, cls)
        self._sections[name] = section.model_dump(mode="json")
        return section

    def value(self, name: str) -> Any:
        """One resolved value of another stage's section, as "ppo.response_tokens": `resolve` has checked it, and a
        change of the rest of that section is none of this stage's business."""
        from rlhf.core.params import dug, read_resolved

        self._sections[name] = value = dug(read_resolved(self.layout.resolved), name)
        return value

    def resolved(self) -> dict[str, Any]:
        """All resolved parameters as plain data, but for UNDECLARED. A stage that asks for them depends on all of these
        sections."""
        from rlhf.core.params import read_resolved

        found = read_resolved(self.layout.resolved)
        resolved = {name: part for name, part in found.items() if name not in UNDECLARED}
        self._sections.update(resolved)
        return resolved

    @property
    def seed(self) -> int:
        """The run's seed."""
        from rlhf.core.params import read_resolved

        self._sections["seed"] = seed = int(read_resolved(self.layout.resolved)["seed"])
        return seed

    def runtime(self) -> "Runtime":
        """This process, ready to compute."""
        from rlhf.core import live
        from rlhf.core.params import read_section
        from rlhf.core.runtime import Runtime, RuntimeParams

        # Read past `section`: it is in no record of the run, since no result depends on it.
        live.start(self.layout.live, read_section(self.layout.resolved, "live", live.LiveParams).to)
        return Runtime.start(self.section("runtime", RuntimeParams), self.seed)

    def shared(self) -> "Shared":
        """How many processes do this stage's work, and which of them this is. Raises UserError if it cannot be shared
        so."""
        from rlhf.core.artifacts import read_json
        from rlhf.core.launcher import BATCHED, SHARDS, shared

        known = self.stage in (*SHARDS, *BATCHED) and self.layout.resolved.is_file()
        return shared(self.stage, read_json(self.layout.resolved) if known else {})

    def launch(self, count: int) -> int:
        """Run this stage as `count` processes; returns the exit status."""
        from rlhf.core.launcher import launch

        arguments = ["-m", f"stages.{self.stage.partition('@')[0]}", *([self.variant] if self.variant else [])]
        first = iter("\n")  # a process that was killed has left its progress bar's line open
        return launch(arguments, count, stage=self.stage, say=lambda line: click.echo(next(first, "") + line, err=True))

    def join(self, shared: "Shared") -> None:
        """Meet the other processes that a launcher has started; all but the first one are silent from now on."""
        from rlhf.core.launcher import meet

        if not meet(shared).is_main:
            sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the very end

    def leave(self) -> None:
        """Part from the others when the work is done."""
        from rlhf.core.processes import leave

        leave()

    @functools.cached_property
    def declared(self) -> "StageSpec | None":
        """What dvc.yaml declares of this stage; None in a folder without one."""
        from rlhf.core.dag import declared

        return declared(Path("dvc.yaml"), self.stage) if Path("dvc.yaml").is_file() else None

    def check_inputs(self, *paths: Path) -> None:
        """Check that what this stage reads (or, of a command that is no stage, `paths`) is what its makers wrote.

        Raises:
            UserError: a file is not what the stage that made it wrote: one line that names both.
        """
        from rlhf.core.intact import check_read

        read = paths or (self.declared.deps if self.declared else ())
        if note := check_read(read, self.layout.root, reader=self.stage):
            click.echo(f"note: {note}", err=True)

    def checkpoints(self) -> "Checkpoints":
        """This run's checkpoints. The fingerprint covers the stage's declared parameters and dependencies, and the
        versions of the libraries: a run that differs in any of them never resumes this one.

        Raises:
            UserError: another process is at the same run.
        """
        from rlhf.core.checkpoint import Checkpoints, checkpoint_root, fingerprint
        from rlhf.core.dag import declared, ignored
        from rlhf.core.params import dug, read_resolved
        from rlhf.core.processes import current
        from rlhf.core.provenance import library_versions
        from rlhf.core.runtime import RuntimeParams

        resolved = read_resolved(self.layout.resolved)
        stage = self.declared or declared(Path("dvc.yaml"), self.stage)
        params: dict[str, object] = {name: dug(resolved, name) for name in stage.params}
        params["versions"] = library_versions()
        runtime = self.section("runtime", RuntimeParams)
        run = current().tell(lambda: fingerprint(params, stage.deps, leave_out=ignored()))
        folder = checkpoint_root(self.layout.checkpoints) / f"{self.stage}-{run}"
        checkpoints = Checkpoints(folder, every_s=runtime.checkpoint_s, every_steps=runtime.checkpoint_steps)
        checkpoints.claim()
        self._checkpoints, self._resumed = checkpoints, folder.is_dir() and any(folder.iterdir())
        return checkpoints

    def finish(
        self,
        metrics: Mapping[str, object],
        *,
        inputs: Sequence[Path],
        outputs: Sequence[Path],
        cards: Sequence[Path] = (),
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """End a stage: write its metrics, a model card into each folder of `cards`, and its provenance; then clear the
        checkpoints.

        `versions`: of engines outside of this environment, beside those of the libraries.

        Cards and provenance tell the sections that this run has read. Cards come first, since the hashes of the outputs
        cover them; the checkpoints go last, so that a run that is killed here resumes.
        """
        from rlhf.core.processes import current

        name = self.stage.replace("@", "_")
        if current().is_main:  # others would hash what is being written
            self._write_end(name, metrics, inputs, outputs, cards=cards, versions=versions or {})
        if self._checkpoints is not None:
            self._checkpoints.clear()

    def _write_end(
        self,
        name: str,
        metrics: Mapping[str, object],
        inputs: Sequence[Path],
        outputs: Sequence[Path],
        *,
        cards: Sequence[Path],
        versions: Mapping[str, str],
    ) -> None:
        from rlhf.core.artifacts import write_metrics
        from rlhf.core.card import write_card
        from rlhf.core.provenance import write_provenance

        write_metrics(self.layout.metrics(name), metrics)
        for folder in cards:
            write_card(folder, stage=folder.name, params=self._sections, metrics=metrics)
        path = self.layout.provenance(name)
        written = self.declared.outs if self.declared else (*outputs, self.layout.metrics(name))
        write_provenance(
            path, stage=self.stage, params=self._sections, inputs=inputs, outputs=outputs, written=written,
            versions=versions,
        )  # fmt: skip

    def costs(self, meter: "Meter") -> None:
        """Write .costs/<stage>.json: what the run cost, on which machine, and which provenance it has left. That is
        never a reason for a run to fail."""
        from rlhf.core.artifacts import sha256_file, write_json
        from rlhf.core.costs import machine, of_all, settings_hash
        from rlhf.core.numerics import numerics
        from rlhf.core.params import read_resolved
        from rlhf.core.processes import current

        with contextlib.suppress(Exception):
            names = sorted(self._sections)
            settings = settings_hash(read_resolved(self.layout.resolved), names)
            record = {"machine": machine(), "resumed": self._resumed, "sections": names, "settings": settings}
            made = self.layout.provenance(self.stage.replace("@", "_"))
            record |= {"numerics": numerics(), "made": sha256_file(made) if made.is_file() else None}
            record["processes"] = current().size
            write_json(self.layout.costs / f"{self.stage}.json", {**of_all(meter.read(), current()), **record})


def stage_command(
    name: str, variants: Sequence[str] = (), *, costs: bool = True, checked: bool = True
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a click command of a function of a Run and of its click options. Its docstring is the help text.

    `variants`: what the command's argument may be, of a stage that dvc.yaml repeats.
    `costs`: whether this is one of the pipeline's stages: its start is checked, and what it took is kept in .costs/.
    `checked`: whether a stage's inputs are checked before it does anything; else it calls `check_inputs` itself.
    """

    def wrap(function: Callable[..., None]) -> click.Command:
        @click.command(name, cls=_Command, help=function.__doc__, context_settings={"max_content_width": 110})
        @functools.wraps(function)
        def command(**options: object) -> None:
            run = Run(name, str(options.pop("variant", "")))
            with safe_streams():
                status = _ended(run, lambda: _work(run, function, options, costs=costs, checked=checked))
            if status:
                sys.exit(status)

        return click.argument("variant", type=click.Choice(variants))(command) if variants else command

    return wrap


class _Command(click.Command):
    """A command whose own complaints of its options are as safe to print as what it does."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with safe_streams():
            return super().main(*args, **kwargs)


def _work(run: Run, function: Callable[..., None], options: Mapping[str, Any], *, costs: bool, checked: bool) -> int:
    from rlhf.core.costs import Meter
    from rlhf.core.launcher import ready_for_signals, started

    ready_for_signals(_interrupt)
    meter = Meter()
    run.fix_instruction_set()
    shared = run.shared()
    if costs and run.stage != "resolve" and shared.checks and not started():
        run.check_start()
        if checked:
            run.check_inputs()
    if shared.launches:
        return run.launch(shared.launches)
    run.join(shared)
    function(run, **options)
    if costs:
        run.costs(meter)
    run.leave()
    return 0


def _ended(run: Run, work: Callable[[], int]) -> int:
    """Do the work; return the exit status after saying what went wrong, if anything did."""
    errors = sys.stderr
    try:
        return work()
    except (Stopped, KeyboardInterrupt):
        from rlhf.core.launcher import says_stopped

        if says_stopped():
            click.echo(f"{run.stage}: stopped; the same command resumes from the last checkpoint", file=errors)
        return 130
    except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        from rlhf.core.launcher import end

        return end(error, run.stage, run.layout.tracebacks, errors)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop at once: outside the training loops, which stop at their next step, nothing is lost."""
    raise KeyboardInterrupt
