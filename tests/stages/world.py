"""A small project in which every stage has run once, for tests that disturb a stage and look what comes of it."""

import shutil
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from rlhf.core.dag import declared
from tests.stages.forker import Ended, Forker, Hit
from tests.stages.project import MICRO, Project

SMALL = MICRO | {
    "base.pretrain.steps": 16, "base.pretrain.eval_every": 6, "base.pretrain.log_every": 2,
    "base.pretrain.batch_size": 2, "data.synthetic.corpus_documents": 600,
    "base.pretrain.validation_share": 0.05, "sft.eval_every": 3, "sft.log_every": 2, "sft.batch_size": 8,
    "sft.samples": 4, "sft.lora.dropout": 0.1, "reward.batch_tokens": 2048, "ppo.iterations": 8,
    "ppo.validation_every": 2, "ppo.kl_controller": "adaptive", "runtime.checkpoint_steps": 2,
}  # fmt: skip


class World:
    """A small project in which every stage has run once, and copies of it at the moments that tests start from."""

    def __init__(
        self, forker: Forker, root: Path, stages: Sequence[str], changes: Mapping[str, object] | None = None
    ) -> None:
        self.forker, self._root, self._copies = forker, root, 0
        self.project = Project.copy(root / "project", {**SMALL, **(changes or {})})
        self.undisturbed = {stage: self.well(stage, self.project.folder) for stage in ("resolve", "prepare", *stages)}
        self.half = cache(self._half)

    def well(self, stage: str, folder: Path) -> Ended:
        """Run a stage that is expected to end well."""
        ended = self.forker.run(stage, folder)
        assert ended.code == ended.signal == 0, ended.said
        return ended

    def before(self, stage: str) -> Path:
        """The project as it is before `stage` runs."""
        folder = self._copy(self.project.folder)
        remove_outs(folder, stage)
        return folder

    def halfway(self, stage: str) -> Path:
        """The project when `stage` was killed somewhere after its second checkpoint."""
        return self._copy(self.half(stage))

    def _half(self, stage: str) -> Path:
        folder = self.before(stage)
        writes = self.undisturbed[stage].writes["save"]
        assert self.forker.run(stage, folder, Hit("save", writes * 6 // 10)).signal == signal.SIGKILL
        remove_outs(folder, stage)
        return folder

    def _copy(self, folder: Path) -> Path:
        self._copies += 1
        return shutil.copytree(folder, self._root / str(self._copies))


def remove_outs(folder: Path, stage: str) -> None:
    """As DVC does before it runs a stage."""
    for out in declared(folder / "dvc.yaml", stage).outs:
        if (folder / out).is_dir():
            shutil.rmtree(folder / out)
        else:
            (folder / out).unlink(missing_ok=True)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones (what a kill may leave) included, but for git's, and for what the stages
    cost: those are of the moment."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".git", ".costs"} & set(path.parts)
    }


def same(world: World, folder: Path) -> bool:
    """Whether `folder` holds what the undisturbed project holds, byte for byte, and nothing else."""
    return tree(folder) == tree(world.project.folder)
