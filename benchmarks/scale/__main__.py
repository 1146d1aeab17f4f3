"""Time a step of pretraining and of PPO over processes, batch and model width, and count the bytes between processes.

    python -m benchmarks.scale [--axes processes batch width] [--steps 20] [--repeats 3] [--counts]

The sizes start from those of the default run. Each case is a launch of its own; cases are run in turn, `--repeats`
times, since the machine may be busy with other things. Two times are printed: on the clock, and of the processor in the
busiest process, which a clock would show on a machine with a free core for each and no time to wait for messages.
Writes benchmarks/results/scale.json and scale.md; with `--counts` without times, which a busy machine would spoil.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from benchmarks.scale.cases import Case, axes
from benchmarks.scale.steps import ROOT, iterations, ppo_setup, pretraining, sizes
from benchmarks.scale.table import Times, medians, store
from rlhf.core.processes import cores

RESULT = "RLHF_SCALE_RESULT"
AXES = ("processes", "batch", "width")


def measure(case: Case, steps: int) -> Times:
    """Launch one case and return its times and counts a step."""
    from rlhf.core.launcher import launch

    with tempfile.TemporaryDirectory() as folder:
        os.environ[RESULT] = str(Path(folder) / "result.json")
        arguments = ["-m", "benchmarks.scale", "--one", json.dumps(asdict(case)), "--steps", str(steps)]
        if launch(arguments, case.processes, stage="scale", say=_say):
            raise SystemExit(1)
        found: Times = json.loads(Path(os.environ[RESULT]).read_text())
    return found


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def one(case: Case, steps: int) -> None:
    """Be one of the processes of a case."""
    from rlhf.core import portable

    portable.apply()
    from rlhf.core import processes
    from rlhf.core.launcher import Shared, meet

    place = processes.launched()
    processes.hide()  # accelerate would join by itself
    with tempfile.TemporaryDirectory() as folder:  # before the processes meet: afterwards only one of them can write
        setup = ppo_setup(case, Path(folder)) if case.what == "ppo" else None
    here = meet(Shared(place, 0, 600.0))
    if not here.is_main:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - to the end
    with tempfile.TemporaryDirectory() as folder:
        marks = list(iterations(setup, steps) if setup else pretraining(case, steps, Path(folder)))
    apart = [[after - before for before, after in zip(a, b, strict=True)] for a, b in pairwise(marks)]
    rows = here.numbers(*(statistics.median(column) for column in zip(*apart, strict=True)))
    if here.is_main:
        names = ("wall_s", "busy_s", "messages", "bytes")
        Path(os.environ[RESULT]).write_text(json.dumps({n: max(row[i] for row in rows) for i, n in enumerate(names)}))
    processes.leave()


def main() -> None:
    """Time all cases, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed in each case")
    parser.add_argument("--repeats", type=int, default=3, help="how often each case is run, in turn")
    parser.add_argument("--processes", type=int, default=cores(), help="at most so many")
    parser.add_argument("--counts", action="store_true", help="store messages and bytes alone, and no times")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(Case(**json.loads(given.one)), given.steps)
    from benchmarks.workload import processor

    wanted = {name: cases for name, cases in axes(sizes(), given.processes).items() if name in given.axes}
    times: dict[Case, list[Times]] = {case: [] for cases in wanted.values() for case in cases}
    about = {"machine": processor(), "cores": cores(), "steps": given.steps}
    for repeat in range(1, given.repeats + 1):
        for case, own in times.items():
            own.append(measure(case, given.steps))
            _say(f"{case}: {own[-1]}")
        found = {case: medians(own, counts_only=given.counts) for case, own in times.items()}
        print(store(given.out, wanted, found, {**about, "repeats": repeat}), flush=True)


if __name__ == "__main__":
    main()
