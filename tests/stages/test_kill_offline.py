"""The alternatives' real command, killed or stopped at its checkpoints and run again, or watched while it runs: the
same bytes as a run that was never disturbed. More that can happen, on the trainer they share: `test_kill`."""

import re
import signal

import pytest

from rlhf.core.artifacts import read_json
from tests.stages.forker import Forker, Hit
from tests.stages.project import Project
from tests.stages.test_readme import unexplained
from tests.stages.world import World, remove_outs, same, tree

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

METHODS = ("dpo", "rrhf", "rejection")  # ipo is dpo's code with another loss
CHANGES: dict[str, object] = {
    "offline.shared.max_examples": 32, "offline.shared.eval_examples": 8, "offline.shared.batch_size": 4,
    "offline.shared.eval_every": 3, "offline.shared.log_every": 2, "offline.shared.response_tokens": 8,
    "offline.rrhf.n": 2, "offline.rejection.n": 2, "offline.rejection.epochs": 1,
    **{f"offline.{method}.run": True for method in METHODS},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> World:
    forker.warm("rlhf.offline.run", "trl.trainer.dpo_trainer")
    stages = ("base", "conformance", "sft", "reward", *(f"offline@{method}" for method in METHODS))
    return World(forker, tmp_path_factory.mktemp("kill"), stages, CHANGES)


@pytest.mark.parametrize(
    "stage",
    [pytest.param(f"offline@{name}", marks=[] if name == "dpo" else pytest.mark.thorough) for name in METHODS],
)
def test_killed_and_stopped_it_ends_with_the_same_bytes(stage: str, world: World) -> None:
    """Killed at its start, twice in the loop, stopped by a signal in it, killed while the outs are
    written; each run goes on where the one before ended."""
    folder = world.before(stage)
    writes, resumed = world.undisturbed[stage].writes, 0
    for hit in (
        Hit("start", delay=0.1),
        Hit("save", writes["save"] * 4 // 10),
        Hit("save", writes["save"] // 10),
        Hit("save", writes["save"] // 10, signal=signal.SIGTERM),
        Hit("result", writes["result"] // 2),
        Hit("result", writes["result"]),
    ):
        ended = world.forker.run(stage, folder, hit)
        if hit.signal == signal.SIGTERM:
            assert (ended.code, ended.signal) == (130, 0), ended.said
            assert f"{stage}: stopped; the same command resumes from the last checkpoint" in ended.said
        else:
            assert ended.signal == signal.SIGKILL, f"{hit}: {ended}"
        found = re.search(r"resuming after step (\d+) of (\d+)", ended.said)
        resumed += found is not None and 0 < int(found[1]) < int(found[2])
        remove_outs(folder, stage)
    assert resumed >= 2, "nothing was left to do after a kill"
    world.well(stage, folder)
    assert same(world, folder)


@pytest.mark.parametrize("stage", ["sft", "offline@rrhf"])
def test_watched_live_it_writes_the_same_bytes(stage: str, world: World) -> None:
    pytest.importorskip("dvclive")
    pytest.importorskip("tensorboard")
    folder = world.before(stage)
    Project(folder).set({"live.to": ["dvclive", "tensorboard"]})
    world.well("resolve", folder)
    world.well(stage, folder)
    watched, plain = tree(folder), tree(world.project.folder)
    curves = [name for name in watched if name.startswith(".live/")]
    assert any(name.endswith(".tsv") for name in curves)
    assert any("tfevents" in name for name in curves)
    curves += ["params.yaml", "params.resolved.json", ".dvc/tmp/btime"]  # the last is DVCLive's, for nobody
    others = [{n: data for n, data in found.items() if n not in curves} for found in (watched, plain)]
    assert others[0] == others[1]


def test_a_card_with_its_numbers_stands_beside_every_model(world: World) -> None:
    root, told = world.project.folder, {}
    for folder in {path.parent for path in (root / "artifacts").rglob("*.safetensors")}:
        told[folder.relative_to(root / "artifacts").as_posix()] = (folder / "README.md").read_text()
    offline = {f"offline/{method}": f"offline_{method}_train_loss" for method in METHODS}
    measured = {"base": "base_validation_loss", "sft": "sft_perplexity_after", "reward": "reward_accuracy",
                "referee": "reward_referee_accuracy", **offline}  # fmt: skip
    assert told.keys() == measured.keys()
    metrics = {name: value for path in (root / "metrics").glob("*.json") for name, value in read_json(path).items()}
    assert unexplained(list(metrics)) == []
    for model, name in measured.items():
        assert re.search(rf"\| `{name}` \| {re.escape(f'{metrics[name]:.4g}')}( |$)", told[model], re.MULTILINE), model
