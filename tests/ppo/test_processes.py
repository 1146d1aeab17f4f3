"""One, two and four processes give the same bytes; what would make them differ is seen."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf.core import processes as core
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.processes import Processes
from rlhf.core.runtime import Runtime
from rlhf.core.seeding import generator
from rlhf.ppo import step as step_module
from rlhf.ppo import update as update_module
from rlhf.ppo.reward_sources import RewardModelSource
from rlhf.ppo.types import Advantages
from tests.ppo import disk
from tests.ppo.worlds import make_params
from tests.processes import ended, said, start, together

SHARED = {
    "iterations": 2, "shards": 4, "engine": "fast", "microbatch": 1, "kl_controller": "adaptive",
    "whiten_rewards": True, "score_clip": 0,
}  # fmt: skip
WEIGHTS = "artifacts/ppo/adapter_model.safetensors"
Plant = Callable[[Processes], None]


def run(template: Path, folder: Path, size: int, *, plant: Plant | None = None, **changes: object) -> dict[str, bytes]:
    """What the stage writes as `size` processes; `plant` puts something wrong into each of them."""
    shutil.copytree(template, folder)

    def work(here: Processes) -> None:
        if plant:
            plant(here)
        disk.run(folder, make_params(**SHARED | changes), folder / "checkpoints", within=folder)

    together(size, folder.with_name(f"{folder.name}-meeting"), work)
    return disk.outputs(folder)


@pytest.fixture(scope="session")
def alone(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(template, tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.thorough)])
def test_any_number_of_processes_writes_the_same_bytes(
    template: Path, tmp_path: Path, alone: dict[str, bytes], size: int
) -> None:
    assert b'"ppo_saved_iteration": 2' in alone["metrics/ppo.json"]  # what is saved was trained
    assert run(template, tmp_path / "run", size) == alone


@pytest.mark.thorough
@pytest.mark.parametrize("source", ["model", "function"])
def test_forty_iterations_give_the_same_bytes(template: Path, tmp_path: Path, source: str) -> None:
    long: dict[str, object] = {
        "iterations": 40,
        "validation_every": 8,
        "validation_prompts": 3,
        "rescore": "always",
        "source": source,
        "validation_patience": 99,
    }
    if source == "function":
        long |= {"function": "reward:score", "function_path": str(tmp_path / "code")}
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "reward.py").write_text(
            "def score(prompts, responses):\n    return [len(set(each)) / 9 for each in responses]\n"
        )
    runs = [run(template, tmp_path / f"run{size}", size, **long) for size in (1, 2, 4)]
    assert runs[0] == runs[1] == runs[2]


def whitened_by_rank(here: Processes) -> None:
    """Each process whitens by the mean and variance of its own rows."""
    real = step_module.estimate_advantages

    def planted(rewards: Tensor, values: Tensor, mask: Tensor, **kwargs: float) -> Advantages:
        rows = torch.arange(len(rewards)) * here.size // len(rewards) == here.rank
        own = real(rewards, values, mask & rows[:, None], **kwargs)  # type: ignore[arg-type] # as they came
        whole = real(rewards, values, mask, **kwargs)  # type: ignore[arg-type] # as above
        return replace(whole, advantages=torch.where(rows[:, None], own.advantages, whole.advantages))

    step_module.estimate_advantages = planted  # type: ignore[assignment] # in a child that ends


def token_mean_by_rank(here: Processes) -> None:
    """Each process divides by its own tokens, and the processes are averaged."""
    real = update_module._microbatch

    def planted(
        actors: object, rollout: update_module.Rollout, *args: object, index: Tensor, **kwargs: object
    ) -> object:
        loss, stats = real(actors, rollout, *args, index=index, **kwargs)  # type: ignore[arg-type, misc] # as they came
        share = torch.tensor(1.0 / (here.size * 4 / here.size))  # of 4 shards of one episode each
        return loss, replace(stats, share=share)

    update_module._microbatch = planted  # type: ignore[assignment] # in a child that ends


def seeded_by_rank(here: Processes) -> None:
    """Each process draws random numbers of its own."""

    def planted(self: Runtime, *stream: str | int) -> torch.Generator:
        return generator(self.seed, *stream, "rank", here.rank)

    Runtime.generator = planted  # type: ignore[method-assign] # in a child that ends


THOROUGH = [pytest.param(plant, marks=pytest.mark.thorough) for plant in (whitened_by_rank, seeded_by_rank)]


@pytest.mark.parametrize("plant", [token_mean_by_rank, *THOROUGH])
def test_what_peers_do_by_rank_shows(template: Path, tmp_path: Path, alone: dict[str, bytes], plant: Plant) -> None:
    found = run(template, tmp_path / "run", 2, plant=plant)
    assert found[WEIGHTS] != alone[WEIGHTS]


@pytest.mark.thorough
def test_other_shards_are_another_run(template: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Or the tests above would show little: at this size, too, sums in another order are other bytes."""
    assert run(template, tmp_path / "run", 1, shards=2)[WEIGHTS] != alone[WEIGHTS]


@pytest.mark.thorough
@pytest.mark.parametrize("victims", [[0], [1], [0, 1]], ids=["main", "other", "all"])
@pytest.mark.parametrize("size", [1, 4])
def test_killed_at_two_and_resumed_at_one_and_four(
    template: Path, tmp_path: Path, victims: list[int], size: int
) -> None:
    long: dict[str, object] = {"iterations": 12}
    whole = run(template, tmp_path / "whole", 1, **long)
    broken = tmp_path / "broken"
    shutil.copytree(template, broken)
    params = make_params(**SHARED | long)

    def work(here: Processes) -> None:
        disk.run(broken, params, broken / "checkpoints", within=broken)

    children = start(2, tmp_path / "first", work)
    while not list(broken.glob("checkpoints/*/step-*")):
        time.sleep(0.01)
    for rank in victims:
        os.kill(children[rank], signal.SIGKILL)
    statuses = ended(children)
    assert {status for rank, status in enumerate(statuses) if rank not in victims} <= {75}
    shutil.rmtree(broken / "plots", ignore_errors=True)
    together(size, tmp_path / "second", work)
    assert "resuming after iteration" in said(tmp_path / "second", 0)
    assert disk.outputs(broken) == whole


@pytest.mark.thorough
def test_a_guard_stops_all_at_the_same_iteration(template: Path, tmp_path: Path) -> None:
    """Where one process goes on alone, the others never answer it (trl#254)."""
    runs = [run(template, tmp_path / f"run{size}", size, iterations=6, kl_limit=0.05) for size in (1, 2)]
    assert runs[0] == runs[1]
    assert b'"ppo_stop_reason": "kl_limit"' in runs[0]["metrics/ppo.json"]


def test_a_full_disk_in_the_one_that_writes_ends_all(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "run")

    def work(here: Processes) -> None:
        def full(*args: object) -> None:
            if here.is_main:
                raise UserError("no space left")

        Checkpoints.save = full  # type: ignore[method-assign, assignment] # in a child that ends
        disk.run(tmp_path / "run", make_params(**SHARED), tmp_path / "checkpoints", within=tmp_path / "run")

    assert ended(start(2, tmp_path / "meeting", work)) == [1, 75]
    assert "no space left" in said(tmp_path / "meeting", 0)


def test_a_function_reward_that_fails_in_one_process_ends_all(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "run")

    def work(here: Processes) -> None:
        def score(self: object, batch: object) -> Tensor:
            raise UserError("reward function a:b: its process ended")

        if here.rank == 1:
            RewardModelSource.score = score  # type: ignore[method-assign, assignment] # in a child that ends
        disk.run(tmp_path / "run", make_params(**SHARED), tmp_path / "checkpoints", within=tmp_path / "run")

    children = start(2, tmp_path / "meeting", work)
    assert ended(children) == [75, 1]
    assert "its process ended" in said(tmp_path / "meeting", 1)
    assert core.current() is core.ALONE
