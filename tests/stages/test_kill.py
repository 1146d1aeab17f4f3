"""The real stage commands, killed, stopped, out of room or with broken checkpoints, and run again: the same bytes as a
run that was never disturbed."""

import random
import re
import signal

import pytest

from tests.stages.forker import Ended, Forker, Hit
from tests.stages.project import Project
from tests.stages.world import World, remove_outs, same, tree

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

TRAINING = ("base", "sft", "reward", "ppo")
THOROUGH = pytest.mark.thorough
# The trainer's checkpoints and PPO's own stand for the others in `make test`, once each of them has been resumed from.
BRIEFLY = [stage if stage in ("sft", "ppo") else pytest.param(stage, marks=THOROUGH) for stage in TRAINING]


@pytest.fixture(scope="module")
def world(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(forker, tmp_path_factory.mktemp("kill"), ("base", "conformance", *TRAINING[1:], "evaluate"))


def draw_hits(stage: str, undisturbed: Ended, each: int) -> list[Hit]:
    """Moments to kill at: well into the run; `each` at the start, at any time, while a checkpoint or anything is being
    written; then while the outs are. Each run goes on where the one before was killed: the counts are small."""
    draw, writes = random.Random(f"kill {stage}"), undisturbed.writes
    hits = [Hit("start", delay=draw.uniform(0.0, 0.1)) for _ in range(each)]
    hits += [Hit("start", delay=draw.uniform(0.1, 0.6 * undisturbed.seconds)) for _ in range(each)]
    hits += [Hit("save", draw.randint(1, writes["save"] // 8), draw.choice([0.0, 0.002])) for _ in range(each)]
    hits += [Hit("any", draw.randint(1, sum(writes.values()) // 8)) for _ in range(each)]
    draw.shuffle(hits)
    hits.insert(0, Hit("save", writes["save"] * 4 // 10))  # so that the others have something to resume
    return hits + [Hit("result", draw.randint(1, writes["result"])) for _ in range(each)]


@pytest.mark.parametrize(
    ("each", "least"), [pytest.param(1, (4, 1), id="six"), pytest.param(3, (10, 2), id="sixteen", marks=THOROUGH)]
)
@pytest.mark.parametrize("stage", BRIEFLY)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    stage: str, each: int, least: tuple[int, int], world: World
) -> None:
    folder = world.before(stage)
    draw, resumed, kills = random.Random(stage), 0, 0
    for hit in draw_hits(stage, world.undisturbed[stage], each):
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
    assert kills >= least[0]
    assert resumed >= least[1]
    assert same(world, folder)


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        pytest.param("base", {"base.pretrain.lr": 1e-3}, marks=THOROUGH),
        pytest.param("sft", {"sft.lr": 1e-3}, marks=THOROUGH),
        pytest.param("reward", {"reward.pooling": "last"}, marks=THOROUGH),
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


@pytest.mark.parametrize(
    ("stage", "number"),
    [  # one handler is set for both, in every stage's command; pretraining has SFT's trainer
        ("sft", signal.SIGTERM), ("reward", signal.SIGINT), ("ppo", signal.SIGTERM),
        *(
            pytest.param(stage, number, marks=THOROUGH)
            for stage, number in (
                ("base", signal.SIGINT), ("base", signal.SIGTERM), ("sft", signal.SIGINT), ("reward", signal.SIGTERM),
                ("ppo", signal.SIGINT),
            )
        ),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("how", "stage"),
    [  # files that end early are told by who writes them, that none can be made by the system
        ("files end early", "sft"), ("files end early", "ppo"), ("no file can be made", "ppo"),
        pytest.param("no file can be made", "sft", marks=THOROUGH),
        *(pytest.param(how, stage, marks=THOROUGH) for how in ("files end early", "no file can be made")
          for stage in ("base", "reward")),
    ],
)  # fmt: skip
def test_no_room_for_a_checkpoint(how: str, stage: str, world: World) -> None:
    folder = world.halfway(stage)
    if how == "files end early":
        ended = world.forker.run(stage, folder, largest=6000)
    else:
        ended = world.forker.run(stage, folder, Hit("save", 1, signal=0))
    refused(ended)
    remove_outs(folder, stage)
    assert "resuming after" in world.well(stage, folder).said
    assert same(world, folder)


@pytest.mark.parametrize("stage", [*BRIEFLY, "evaluate"])
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
