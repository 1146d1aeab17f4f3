"""Time a step of pretraining and of PPO over numbers of processes and of shards, and count the bytes between them.

    python -m benchmarks.scale --steps 20 --repeats 3

The sizes are those of the default run. Each case is a launch of its own; cases are run in turn, `--repeats` times,
since the machine may be busy with other things. Two times are printed: on the clock, and of the processor in the
busiest process, which a clock would show on a machine with a free core for each and no time to wait for messages.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = "RLHF_SCALE_RESULT"
Case = tuple[str, int, int]  # what, shards, processes
Times = dict[str, float]


def cases(most: int) -> list[Case]:
    """List what is timed: today's work in one process, then two shards and more, shared by 1, 2, 4, ... processes."""
    found: list[Case] = []
    for what, limit in (("base", 8), ("ppo", 16)):
        found.append((what, 1, 1))
        shards = 2
        while shards <= min(limit, most):
            found += [(what, shards, 1), (what, shards, shards)]
            shards *= 2
    return found


def measure(case: Case, steps: int) -> Times:
    """Launch one case and return its times a step."""
    from rlhf.core.launcher import launch

    what, shards, processes = case
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RESULT] = str(Path(folder) / "result.json")
        arguments = ["-m", "benchmarks.scale", "--one", what, "--shards", str(shards), "--steps", str(steps)]
        if launch(arguments, processes, stage="scale", say=_say):
            raise SystemExit(1)
        found: Times = json.loads(Path(os.environ[RESULT]).read_text())
    return found


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def one(what: str, shards: int, steps: int) -> None:
    """Be one of the processes of a case."""
    from rlhf.core import portable

    portable.apply()
    from rlhf.core import processes
    from rlhf.core.launcher import Shared, meet

    place = processes.launched()
    processes.hide()  # accelerate would join by itself
    with tempfile.TemporaryDirectory() as folder:  # before the processes meet: afterwards only one of them can write
        setup = _setup(shards, Path(folder)) if what == "ppo" else None
    here = meet(Shared(place, 0, 600.0))
    if not here.is_main:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - to the end
    with tempfile.TemporaryDirectory() as folder:
        marks = list(_ppo(setup, steps) if setup else _base(shards, steps, Path(folder)))
    apart = [[after - before for before, after in zip(a, b, strict=True)] for a, b in pairwise(marks)]
    rows = here.numbers(*(statistics.median(column) for column in zip(*apart, strict=True)))
    if here.is_main:
        names = ("wall_s", "busy_s", "messages", "bytes")
        Path(os.environ[RESULT]).write_text(json.dumps({n: max(row[i] for row in rows) for i, n in enumerate(names)}))
    processes.leave()


Mark = tuple[float, float, int, int]


def _mark() -> Mark:
    from rlhf.core.processes import current

    traffic = current().traffic
    return time.perf_counter(), time.process_time(), traffic.messages, traffic.bytes


def _base(shards: int, steps: int, folder: Path) -> Iterator[Mark]:
    """Pretrain on rows of drawn tokens; a mark after every step but the first two."""
    from benchmarks.workload import tokenizer
    from rlhf.base.pretrain import pretrain
    from rlhf.core.checkpoint import Checkpoints
    from rlhf.core.runtime import Runtime
    from rlhf.core.seeding import rng
    from rlhf.params import resolve
    from rlhf.training.training_curve import Record

    params = resolve(ROOT / "params.yaml", ROOT / "profiles")
    drawn = rng(0, "scale")
    texts = [" ".join(f"t{drawn.randrange(1000)}" for _ in range(20)) for _ in range(800)]
    changes = {"shards": shards, "steps": steps + 2, "warmup_steps": 0, "eval_every": 10**6}
    marks: list[Mark] = []
    end: Callable[..., None] = Record.end_step

    def marked(self: Record, step: int) -> None:
        end(self, step)
        marks.append(_mark())

    Record.end_step = marked  # type: ignore[method-assign] # in a process that ends
    pretrain(
        texts,
        tokenizer(1024),
        params.base.pretrain.model_copy(update=changes),
        runtime=Runtime.start(params.runtime, 0),
        checkpoints=Checkpoints(folder / "checkpoints", every_s=1e9, every_steps=0),
        curve=folder / "base.csv",
    )
    yield from marks[1:]


def _setup(shards: int, folder: Path) -> Any:
    """Make the default run's sizes of PPO, with replies of 8 to 24 tokens."""
    from benchmarks.workload import Shape, make_setup
    from rlhf.models.fast.allocator import keep_memory
    from rlhf.params import resolve

    keep_memory()
    ppo = resolve(ROOT / "params.yaml", ROOT / "profiles").ppo
    shape = Shape(2, 128, 4, 1024, ppo.batch, 20, 24, 8, ppo.epochs, ppo.microbatch)
    setup = make_setup(shape, "fast", folder, 1)
    params = setup.params.model_copy(update={"shards": shards, "minibatch": ppo.minibatch})
    setup = replace(setup, params=params)
    object.__setattr__(setup, "shape", shape)
    return setup


def _ppo(setup: Any, steps: int) -> Iterator[Mark]:
    """Iterate; a mark after every iteration."""
    from rlhf.ppo.state import Progress
    from rlhf.ppo.step import step

    for iteration in range(steps + 1):
        step(setup, Progress(kl_coef=0.1, iteration=iteration))
        yield _mark()


def table(found: dict[Case, list[Times]]) -> str:
    """Write the medians as a table, with the parallel share that the processor times show."""
    heads = "step of", "shards", "processes", "s on the clock", "s of the busiest process", "against 1 shard"
    lines = [f"| {' | '.join((*heads, 'messages', 'kB sent by each'))} |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for (what, shards, processes), times in found.items():
        mid: dict[str, Any] = {name: statistics.median(each[name] for each in times) for name in times[0]}
        before = statistics.median(each["busy_s"] for each in found[what, 1, 1])
        lines.append(
            f"| {what} | {shards} | {processes} | {mid['wall_s']:.3f} | {mid['busy_s']:.3f} | "
            f"{mid['busy_s'] / before:.2f} | {mid['messages']:.0f} | {mid['bytes'] / 1e3:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Time all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed in each case")
    parser.add_argument("--repeats", type=int, default=3, help="how often each case is run, in turn")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="at most so many")
    parser.add_argument("--one", choices=("base", "ppo"), help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(given.one, given.shards, given.steps)
    found: dict[Case, list[Times]] = {case: [] for case in cases(given.processes)}
    for _ in range(given.repeats):
        for case, times in found.items():
            times.append(measure(case, given.steps))
            _say(f"{case}: {times[-1]}")
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
