"""Every guard provoked in the stage as a whole: the last sound policy is on disk, the reason in the metrics."""

import csv
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf.core.artifacts import load_tensors, read_json
from rlhf.core.layout import Layout
from rlhf.ppo import train as module
from rlhf.ppo.actors import POLICY
from rlhf.ppo.reward_sources import RewardModelSource, Scorable
from rlhf.ppo.state import Progress
from rlhf.ppo.step import Setup
from tests.ppo import disk
from tests.ppo.worlds import make_params

STEADY: dict[str, object] = {"lr_schedule": "constant", "iterations": 6}  # so that a shorter run takes the same steps
FAST_MOVING: dict[str, object] = {"lr": 2e-2, "kl_coef": 0.0, "epochs": 4}


def run(template: Path, folder: Path, **changes: object) -> tuple[dict[str, object], dict[str, Tensor]]:
    """The stage's metrics, and the policy and value head that it wrote."""
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        disk.run(folder, make_params(**STEADY | changes), folder / "checkpoints")
        policy = load_tensors(Layout().ppo / "adapter_model.safetensors")
        return read_json(Layout().metrics("ppo")), policy | load_tensors(Layout().ppo / "value_head.safetensors")


def holds_the_policy_of(
    template: Path, folder: Path, iterations: int, found: dict[str, Tensor], **moving: object
) -> bool:
    """Whether `found` is what a run that is given only so many iterations, and no guard, ends with."""
    _, expected = run(template, folder, **moving | {"iterations": iterations})
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def bad_scores(at: int, bad: float) -> Callable[[RewardModelSource, Scorable], Tensor]:
    calls, original = 0, RewardModelSource.score

    def score(self: RewardModelSource, batch: Scorable) -> Tensor:
        nonlocal calls
        calls += 1
        scores = original(self, batch).clone()
        if calls == at:
            scores[0] = bad
        return scores

    return score


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(math.nan, "nonfinite_score"), pytest.param(-math.inf, "nonfinite_score", marks=pytest.mark.thorough)],
)
def test_one_bad_score(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float, reason: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RewardModelSource, "score", bad_scores(4, bad))
        metrics, policy = run(template, tmp_path / "bad")
    assert metrics["ppo_stop_reason"] == reason
    assert metrics["ppo_saved_iteration"] == 2  # that of iteration 3 made the bad score; that of 2 was sound
    assert holds_the_policy_of(template, tmp_path / "short", 2, policy)


@pytest.mark.parametrize("what", ["loss", pytest.param("gradient", marks=pytest.mark.thorough)])
def test_an_update_that_is_not_finite(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    original = module.step

    def sabotaged(setup: Setup, progress: Progress) -> object:
        parameters = list(setup.actors.backbone.parameters_of(POLICY).values())
        if progress.iteration == 3 and what == "gradient":
            parameters[-1].register_hook(lambda gradient: gradient * math.inf)
        if progress.iteration == 3 and what == "loss":
            calls = 0

            def later(module: object, inputs: object, output: Tensor) -> Tensor:
                nonlocal calls
                calls += 1
                return output * (math.nan if calls == 4 else 1.0)  # in the update, after sampling and two minibatches

            setup.actors.value_head.register_forward_hook(later)
        return original(setup, progress)

    with monkeypatch.context() as patch:
        patch.setattr(module, "step", sabotaged)
        metrics, policy = run(template, tmp_path / "bad")
    assert metrics["ppo_stop_reason"] == f"nonfinite_{what}"
    assert metrics["ppo_saved_iteration"] == 3  # its episodes were sound; what failed is the update
    assert holds_the_policy_of(template, tmp_path / "short", 3, policy)


@pytest.mark.parametrize(
    ("guard", "reason", "sign"),
    [("kl_limit", "kl_limit", 1), pytest.param("entropy_floor", "entropy_collapse", -1, marks=pytest.mark.thorough)],
)
def test_a_policy_beyond_its_limit(template: Path, tmp_path: Path, guard: str, reason: str, sign: int) -> None:
    """A free run says what happens; the limit is then set between the extreme until some iteration and that of it."""
    free, _ = run(template, tmp_path / "free", **FAST_MOVING)
    assert free["ppo_stop_reason"] == "completed"
    with (tmp_path / "free" / "plots" / "ppo.csv").open() as file:
        seen = [sign * float(row[guard.partition("_")[0]]) for row in csv.DictReader(file)]
    beyond = next(index for index in range(2, 6) if seen[index] > max(seen[:index]))
    limit = sign * (seen[beyond] + max(seen[:beyond])) / 2
    metrics, policy = run(template, tmp_path / "held", **FAST_MOVING, **{guard: limit})
    assert (metrics["ppo_stop_reason"], metrics["ppo_saved_iteration"]) == (reason, beyond - 1)
    assert f"{limit:g}" in str(metrics["ppo_stop_detail"])
    assert holds_the_policy_of(template, tmp_path / "short", beyond - 1, policy, **FAST_MOVING)
