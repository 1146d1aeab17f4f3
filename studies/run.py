"""A run of a study: the project in a folder of its own, with other parameters, each stage done once.

Code, profiles and inputs are links to the project's. What a run does not make itself it shares with the run that it
starts from, by links to that run's outputs: seeds share base and SFT so, and a run may start from the project's own
artifacts. A stage is done as long as its mark holds its version: a hash of the parameters that dvc.yaml declares for it
(dotted names included), of its code, and of all files that it reads.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.dag import StageSpec, declared_stages
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[1]
CODE = ("rlhf", "stages")
STAGES = ("prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate")  # what PPO's policy takes, in order
TAMPER = "tamper"


@dataclass(frozen=True, slots=True)
class Tamper:
    """A change that no parameter can make: a function of a run's layout and seed, and the outputs that it edits.

    The run gets copies of these outputs of the run it starts from; they are edited before its first stage.
    """

    edit: Callable[[Layout, int], None]
    outs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """What to make and where.

    changes: values by dotted keys of params.yaml.

    stages: those it makes itself, in order, named as in dvc.yaml; "name@item" is one of a foreach.

    start: the run that makes whatever else these stages read.

    measured: the study reports what the stages cost, so each gets a new process, as from the command line.

    under: what the stages' commands are started under: an emulator of another processor and its options.
    """

    folder: Path
    changes: Mapping[str, object]
    stages: tuple[str, ...]
    start: "Run | None" = None
    tamper: Tamper | None = None
    measured: bool = False
    under: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """List what is done in order: the tampering if there is any, then the stages."""
        return ((TAMPER,) if self.tamper else ()) + self.stages

    @property
    def resolved(self) -> Path:
        """Name the file of its checked parameters."""
        return Layout(self.folder).resolved

    @functools.cached_property
    def shared(self) -> dict[str, "Run"]:
        """Find each stage upstream of its own, with the run that makes it."""
        found: dict[str, Run] = {}
        seen = list(self.stages)
        for stage in seen:
            upstream = [name for name in project_stages() if name not in seen and _feeds(name, stage)]
            found |= {name: self._maker(name, stage) for name in upstream}
            seen += upstream
        return found

    def spec(self, stage: str) -> StageSpec:
        """Read what dvc.yaml declares of a stage, with this run's parameters filled in."""
        if any(f"${{{key}}}" in _project_dag() for key in self.changes):
            return self._own_specs[stage]
        return project_stages()[stage]

    @functools.cached_property
    def _own_specs(self) -> dict[str, StageSpec]:
        """Read them all at once: a folder's parameters stay as they were furnished, and reading takes a while."""
        return declared_stages(self.folder / "dvc.yaml", project_stages())

    def outs(self, step: str) -> tuple[Path, ...]:
        """List what a step writes, relative to the folder."""
        if step == TAMPER:
            return tuple(map(Path, self.tamper.outs)) if self.tamper else ()
        return project_stages()[step].outs

    def mark(self, step: str) -> Path:
        """Name the file that holds the version of the step that was done."""
        return self.folder / ".done" / step

    def metrics(self) -> dict[str, Any]:
        """Read all metrics of its stages and of those it shares."""
        outs = [out for stage in (*self.shared, *self.stages) for out in self.outs(stage) if out.parts[0] == "metrics"]
        found: dict[str, Any] = {}
        for out in outs:
            found |= read_json(self.folder / out)
        return found

    def _maker(self, stage: str, reader: str) -> "Run":
        run = self.start
        while run is not None and run is not PROJECT and stage not in run.stages:
            run = run.start
        if run is None:
            raise ValueError(f"{self.folder.name}: {reader} needs {stage}, which no run makes")
        return run


PROJECT = Run(ROOT, {}, ())  # as the start of others: the artifacts that `dvc repro` left


def seed_run(work: Path, seed: int, stages: tuple[str, ...] = STAGES) -> Run:
    """Plan the default parameters with another seed, in <work>/seed<seed>; other runs may start from it."""
    return Run(work / f"seed{seed}", {"seed": seed}, stages)


def touched(stages: Iterable[str], changes: Iterable[str]) -> tuple[str, ...]:
    """Pick those of `stages` that declare a parameter among `changes`, so that they cannot be shared."""
    changed = [f"{key}." for key in changes]

    def concerned(stage: str) -> bool:
        names = [f"{name}." for name in project_stages()[stage].params]
        return any(key.startswith(name) or name.startswith(key) for key in changed for name in names)

    return tuple(stage for stage in stages if concerned(stage))


@functools.cache
def project_stages() -> dict[str, StageSpec]:
    """Read what the project's dvc.yaml declares, by stage; items of a foreach one by one."""
    path = ROOT / "dvc.yaml"
    items = {name: spec.get("foreach") for name, spec in read_yaml(path)["stages"].items()}
    names = [f"{name}@{item}" if item else name for name, each in items.items() for item in each or [""]]
    return declared_stages(path, names)


@functools.cache
def _project_dag() -> str:
    return (ROOT / "dvc.yaml").read_text(encoding="utf-8")


def _feeds(maker: str, reader: str) -> bool:
    """Say whether a stage reads what another writes."""
    outs, deps = project_stages()[maker].outs, project_stages()[reader].deps
    return any(out == dep or out in dep.parents or dep in out.parents for out in outs for dep in deps)
