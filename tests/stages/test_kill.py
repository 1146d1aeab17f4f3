"""The real stage commands, killed, stopped, out of room or with broken checkpoints, and run again: the same bytes as a
run that was never disturbed."""

import random
import re
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rlhf.core.dag import declared
from tests.stages.forker import Ended, Forker, Hit
from tests.stages.project import MICRO, Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

TRAINING = ("base", "sft", "reward", "ppo")
SMALL = MICRO | {
    "base.pretrain.steps": 16, "base.pretrain.eval_every": 6, "base.pretrain.log_every": 2,
    "base.pretrain.width": 64, "base.pretrain.batch_size": 2, "data.synthetic.corpus_documents": 600,
    "base.pretrain.validation_share": 0.05, "sft.eval_every": 3, "sft.log_every": 2, "sft.batch_size": 8,
    "sft.samples": 4, "sft.lora.dropout": 0.1, "reward.batch_tokens": 2048, "ppo.iterations": 8,
    "ppo.heldout_every": 2, "ppo.kl_controller": "adaptive", "runtime.checkpoint_steps": 2,
}  # fmt: skip


class World:
    """A small project in which every stage has run once, and copies of it at the moments that tests start from."""

    def __init__(self, forker: Forker, root: Path) -> None:
        self.forker, self._root, self._copies = forker, root, 0
        self.project = Project.copy(root / "project", SMALL)
        self.undisturbed = {
            stage: self.well(stage, self.project.folder) for stage in ("resolve", "prepare", *TRAINING, "evaluate")
        }
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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    forker = Forker()
    yield World(forker, tmp_path_factory.mktemp("kill"))
    forker.close()


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


def draw_hits(stage: str, undisturbed: Ended) -> list[Hit]:
    """Sixteen moments: well into the run; three each at the start, at any time, while a checkpoint or anything is
    being written; then while the outs are. Each run goes on where the one before was killed: the counts are small."""
    draw, writes = random.Random(f"kill {stage}"), undisturbed.writes
    hits = [Hit("start", delay=draw.uniform(0.0, 0.1)) for _ in range(3)]
    hits += [Hit("start", delay=draw.uniform(0.1, 0.6 * undisturbed.seconds)) for _ in range(3)]
    hits += [Hit("save", draw.randint(1, writes["save"] // 8), draw.choice([0.0, 0.002])) for _ in range(3)]
    hits += [Hit("any", draw.randint(1, sum(writes.values()) // 8)) for _ in range(3)]
    draw.shuffle(hits)
    hits.insert(0, Hit("save", writes["save"] * 4 // 10))  # so that the others have something to resume
    return hits + [Hit("result", draw.randint(1, writes["result"])) for _ in range(3)]


@pytest.mark.parametrize("stage", TRAINING)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(stage: str, world: World) -> None:
    folder = world.before(stage)
    draw, resumed, kills = random.Random(stage), 0, 0
    for hit in draw_hits(stage, world.undisturbed[stage]):
        if draw.random() < 0.5:
            remove_outs(folder, stage)
        killed = world.forker.run(stage, folder, hit)
        if killed.code == killed.signal == 0:  # it was over before its hit
            assert same(world, folder)
            remove_outs(folder, stage)
            continue
        assert killed.signal == signal.SIGKILL, f"{hit}: {killed}"
        kills += 1
        found = re.search(r"resuming after \w+ (\d+) of (\d+)", killed.said)
        resumed += found is not None and int(found[1]) < int(found[2])  # and had steps left, whose bytes can differ
    world.well(stage, folder)
    assert kills >= 10
    assert resumed >= 2
    assert same(world, folder)


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("base", {"base.pretrain.lr": 1e-3}),
        ("sft", {"sft.lr": 1e-3}),
        ("reward", {"reward.pooling": "last"}),
        ("ppo", {"ppo.kl_coef": 0.7}),
    ],
)
def test_other_parameters_never_pick_up_a_stale_checkpoint(stage: str, change: dict[str, object], world: World) -> None:
    trees = []
    for folder in (world.halfway(stage), world.before(stage)):
        Project(folder).set(change)
        world.well("resolve", folder)
        assert "resuming" not in world.well(stage, folder).said
        trees.append({name: data for name, data in tree(folder).items() if not name.startswith(".checkpoints/")})
    assert trees[0] == trees[1]
    old = world.halfway(stage)
    assert "resuming after" in world.well(stage, old).said  # with the old parameters it is still good
    assert same(world, old)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", TRAINING)
def test_a_signal_stops_the_command_which_says_how_to_resume(stage: str, number: int, world: World) -> None:
    """In the loop (at the fourth write of a checkpoint), and then while the outs are being written."""
    folder = world.before(stage)
    for hit in (
        Hit("start", delay=0.05, signal=number),
        Hit("save", 14, signal=number),
        Hit("result", 2, signal=number),
    ):
        stopped = world.forker.run(stage, folder, hit)
        assert (stopped.code, stopped.signal) == (130, 0), stopped.said
        line = f"{stage}: stopped; the same command resumes from the last checkpoint"
        assert stopped.said.splitlines().count(line) == 1
        assert "Traceback" not in stopped.said
    assert "resuming after" in world.well(stage, folder).said
    assert same(world, folder)


@pytest.mark.parametrize("stage", TRAINING)
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_is_used(stage: str, world: World) -> None:
    folder = world.halfway(stage)
    found = [path for path in folder.glob(".checkpoints/*/*-*") if (path / "manifest.json").exists()]
    newest, previous = sorted(found, key=lambda path: -int(path.name.split("-")[1]))[:2]
    victim = max((path for path in newest.iterdir() if path.suffix != ".json"), default=newest / "state.json")
    victim.write_bytes(victim.read_bytes()[:-20])
    said = world.well(stage, folder).said
    assert f"{newest.name}: broken checkpoint, using the one before it, {previous.name}" in said
    assert same(world, folder)


def refused(ended: Ended) -> str:
    """The one line that says that the disk is full."""
    assert (ended.code, ended.signal) == (1, 0), ended.said
    assert "Traceback" not in ended.said
    (line,) = re.findall("^error: .*", ended.said, re.MULTILINE)
    assert "the disk is full" in line
    return str(line)


@pytest.mark.parametrize("stage", TRAINING)
@pytest.mark.parametrize("how", ["no file can be made", "files end early"])
def test_no_room_for_a_checkpoint(stage: str, how: str, world: World) -> None:
    folder = world.halfway(stage)
    if how == "files end early":
        ended = world.forker.run(stage, folder, largest=6000)
    else:
        ended = world.forker.run(stage, folder, Hit("save", 1, signal=0))
    refused(ended)
    remove_outs(folder, stage)
    assert "resuming after" in world.well(stage, folder).said
    assert same(world, folder)


@pytest.mark.parametrize("stage", [*TRAINING, "evaluate"])
def test_no_room_for_the_outs(stage: str, world: World) -> None:
    folder = world.before(stage)
    assert "artifacts/" in refused(world.forker.run(stage, folder, Hit("result", 2, signal=0)))
    assert not [path for path in tree(folder) if re.search(r"(metrics|artifacts)/\.[^/]+\.\w{8}(/|$)", path)]
    world.well(stage, folder)
    assert same(world, folder)


def test_two_processes_never_work_on_the_same_run(world: World) -> None:
    import fcntl
    import os

    folder = world.halfway("sft")
    (run,) = (folder / ".checkpoints").iterdir()
    held = os.open(run, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    ended = world.forker.run("sft", folder)
    assert (ended.code, ended.writes["plot"]) == (1, 0)
    assert "another process runs this stage" in ended.said
    os.close(held)
    world.well("sft", folder)
