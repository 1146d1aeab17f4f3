"""Steps of a case, by one of its processes: a mark of clocks and messages after each."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scale.cases import HEAD, Case

ROOT = Path(__file__).resolve().parents[2]
Mark = tuple[float, float, int, int]  # clock, processor time, messages and bytes sent, so far


def sizes() -> dict[str, tuple[int, int]]:
    """Read batch and width of the default run's steps."""
    from rlhf.params import resolve

    params = resolve(ROOT / "params.yaml", ROOT / "profiles")
    width = params.base.pretrain.width
    return {"base": (params.base.pretrain.batch_size, width), "ppo": (params.ppo.batch, width)}


def mark() -> Mark:
    """Read clocks and counts."""
    from rlhf.core.processes import current

    traffic = current().traffic
    return time.perf_counter(), time.process_time(), traffic.messages, traffic.bytes


def pretraining(case: Case, steps: int, folder: Path) -> Iterator[Mark]:
    """Pretrain on rows of drawn tokens; a mark after every step but the first."""
    from benchmarks.workload import tokenizer
    from rlhf.base.pretrain import pretrain
    from rlhf.core.checkpoint import Checkpoints
    from rlhf.core.runtime import Runtime
    from rlhf.core.seeding import rng
    from rlhf.params import resolve
    from rlhf.training.training_curve import Record

    params = resolve(ROOT / "params.yaml", ROOT / "profiles")
    drawn = rng(0, "scale")
    texts = [" ".join(f"t{drawn.randrange(1000)}" for _ in range(20)) for _ in range(100 * case.batch)]
    changes = {"shards": case.shards, "steps": steps + 2, "warmup_steps": 0, "eval_every": 10**6}
    changes |= {"batch_size": case.batch, "width": case.width, "heads": max(1, case.width // HEAD)}
    marks: list[Mark] = []
    end: Callable[..., None] = Record.end_step

    def marked(self: Record, step: int) -> None:
        end(self, step)
        marks.append(mark())

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


def ppo_setup(case: Case, folder: Path) -> Any:
    """Make the default run's PPO at the case's sizes, with replies of 8 to 24 tokens."""
    from benchmarks.workload import Shape, make_setup
    from rlhf.models.fast.allocator import keep_memory
    from rlhf.params import resolve

    keep_memory()
    ppo = resolve(ROOT / "params.yaml", ROOT / "profiles").ppo
    heads = max(1, case.width // HEAD)
    shape = Shape(2, case.width, heads, 1024, case.batch, 20, 24, 8, ppo.epochs, ppo.microbatch)
    setup = make_setup(shape, "fast", folder, 1)
    minibatch = max(1, ppo.minibatch * case.batch // ppo.batch)  # as many of them, at any batch
    setup = replace(setup, params=setup.params.model_copy(update={"shards": case.shards, "minibatch": minibatch}))
    object.__setattr__(setup, "shape", shape)
    return setup


def iterations(setup: Any, steps: int) -> Iterator[Mark]:
    """Iterate PPO; a mark after every iteration."""
    from rlhf.ppo.state import Progress
    from rlhf.ppo.step import step

    for iteration in range(steps + 1):
        step(setup, Progress(kl_coef=0.1, iteration=iteration))
        yield mark()
