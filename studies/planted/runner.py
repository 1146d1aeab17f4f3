"""Running the plants: a folder for each seed and each run, stages in forks of one process, each done once."""

import hashlib
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, write_json
from rlhf.core.dag import declared
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml
from studies.planted.plants import SCALED, Planned
from studies.planted.tamper import TAMPERS

ROOT = Path(__file__).resolve().parents[2]
SEED_STAGES = ("prepare", "base", "sft", "reward")
RUN_STAGES = ("ppo", "evaluate")
TAMPER = "tamper"
MADE = {"prepare": ["prepare"], "reward": ["reward", "referee", "reward_learned.json"], "ppo": ["ppo"]}


def seed_folder(work: Path, seed: int) -> Path:
    """Where what all runs of a seed share is made."""
    return work / f"seed-{seed}"


def run_all(work: Path, runs: Sequence[Planned], processes: int) -> None:
    """Make what is not there yet: first the seeds, then the runs, at most so many at once.

    Raises:
        SystemExit: a stage failed; its log is named, and what was done stays done.
    """
    warm_up()
    seeds = sorted({run.seed for run in runs})
    at_once([(_make_seed, (work, seed), seed_folder(work, seed)) for seed in seeds], processes)
    at_once([(_make_run, (work, run), work / run.name) for run in runs], processes)


def finished(work: Path, run: Planned) -> bool:
    """Whether all stages of a run were done."""
    return all((work / run.name / ".done" / stage).exists() for stage in RUN_STAGES)


def at_once(jobs: Sequence[tuple[Any, tuple[Any, ...], Path]], processes: int) -> None:
    """Each job in a fork of its own, which has the libraries already."""
    fork = multiprocessing.get_context("fork")
    waiting, busy, failed = list(jobs), dict[BaseProcess, Path](), list[Path]()
    while waiting or busy:
        while waiting and len(busy) < processes:
            function, arguments, folder = waiting.pop(0)
            process = fork.Process(target=_logged, args=(function, arguments, folder))
            process.start()
            busy[process] = folder
        time.sleep(0.1)
        for process in [one for one in busy if not one.is_alive()]:
            folder = busy.pop(process)
            if process.exitcode:
                failed.append(folder)
            print(f"{folder.name}: {'FAILED' if process.exitcode else 'done'}, {len(waiting)} waiting", file=sys.stderr)
    if failed:
        sys.exit("\n".join(f"{folder}: a stage failed, see log.txt there" for folder in failed))


def warm_up() -> None:
    """Import what the stages import, once for all forks."""
    import accelerate  # noqa: F401 - forks find it in memory
    import torch
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401 - as above

    torch.set_num_threads(1)  # threads do not survive a fork
    for module in ("prepare.build", "prepare.write", "base.make", "sft.run", "reward.train", "ppo.run", "evaluate.run"):
        importlib.import_module(f"rlhf.{module}")


def _logged(function: Any, arguments: tuple[Any, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    function(*arguments)


def _make_seed(work: Path, seed: int) -> None:
    folder = seed_folder(work, seed)
    _furnish(folder, {**SCALED, "seed": seed})
    _stages(folder, SEED_STAGES)


def _make_run(work: Path, run: Planned) -> None:
    folder = work / run.name
    _furnish(folder, {**SCALED, "seed": run.seed, **run.kind.changes, **run.changes})
    made = {name for stage in run.kind.remade for name in MADE[stage]}
    for item in (seed_folder(work, run.seed) / "artifacts").iterdir():
        link = folder / "artifacts" / item.name
        if item.name not in made and not link.exists():
            link.symlink_to(os.path.relpath(item, link.parent))
    for path in (seed_folder(work, run.seed) / "metrics").iterdir():
        link = folder / "metrics" / path.name
        if path.stem not in run.kind.remade and not link.exists():
            link.symlink_to(os.path.relpath(path, link.parent))
    if run.kind.tamper and not _done(folder, TAMPER):
        TAMPERS[run.kind.tamper](Layout(folder), run.seed)
        _mark(folder, TAMPER)
    _stages(folder, (*run.kind.remade, *RUN_STAGES))


def _furnish(folder: Path, changes: Mapping[str, object]) -> None:
    """The folder as a project: links to code and profiles, params.yaml with the changes, resolved."""
    from rlhf.params import resolve

    for name in ("artifacts", "metrics", "plots", ".done"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("rlhf", "stages", "profiles", "inputs", "dvc.yaml"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    values = read_yaml(ROOT / "params.yaml")
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        if last not in place:
            raise KeyError(f"params.yaml has no {dotted}")
        place[last] = value
    write_json(folder / "params.yaml", values)  # JSON is YAML too
    resolved = resolve(folder / "params.yaml", folder / "profiles")
    write_json(folder / "params.resolved.json", resolved.stages())


def _stages(folder: Path, stages: Sequence[str]) -> None:
    """The commands themselves, in the folder, each once."""
    os.chdir(folder)
    for stage in stages:
        if not _done(Path(), stage):
            start = time.perf_counter()
            importlib.import_module(f"stages.{stage}").main.main(args=[], standalone_mode=False)
            print(f"{stage}: {time.perf_counter() - start:.1f} s", flush=True)
            _mark(Path(), stage)


def _done(folder: Path, stage: str) -> bool:
    mark = folder / ".done" / stage
    return mark.exists() and mark.read_text() == _version(folder, stage)


def _mark(folder: Path, stage: str) -> None:
    (folder / ".done" / stage).write_text(_version(folder, stage))


def _version(folder: Path, stage: str) -> str:
    """Of the parameters that the stage reads. The code is not looked at: delete the work folder after changing it."""
    resolved = read_json(folder / "params.resolved.json")
    names = declared(folder / "dvc.yaml", stage).params if stage != TAMPER else ("seed",)
    return hashlib.sha256(json.dumps({name: resolved.get(name) for name in names}).encode()).hexdigest()
