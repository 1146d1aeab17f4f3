"""The loop: a reward is learned, guards and validation stop it, and an interrupted run ends with the same bytes."""

import csv
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import Stopped
from rlhf.ppo import train as module
from rlhf.ppo.actors import POLICY, Actors
from rlhf.ppo.episodes import EpisodeLog
from rlhf.ppo.reward_sources import RewardSource, Scorable
from rlhf.ppo.run import metrics
from rlhf.ppo.state import Progress
from rlhf.ppo.step import Experience, Setup
from rlhf.ppo.train import Outcome, train
from tests.ppo.worlds import TokenShare, make_actors, make_params, make_prompts, make_setup, snapshot

Make = Callable[..., Actors]


@pytest.fixture
def make(tiny_model_dir: Path, tiny_adapter_dir: Path) -> Make:
    def build(source: RewardSource | None = None) -> Actors:
        return make_actors(tiny_model_dir, tiny_adapter_dir, source)

    return build


def run(setup: Setup, folder: Path, *, every: int = 0) -> Outcome:
    checkpoints = Checkpoints(folder / "checkpoints", every_s=1e9, every_steps=every)
    return train(setup, make_prompts(setup.actors)[:3], checkpoints=checkpoints, curve=folder / "ppo.csv")


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "ppo.csv").open() as file:
        return list(csv.DictReader(file))


@dataclass
class Favoured:
    """Scores the share of favoured tokens, from -2 to 2. The favoured half of the vocabulary lies on one side of a
    plane in embedding space, so that one direction of the hidden state makes all of them likelier."""

    tokens: Tensor

    @classmethod
    def of(cls, actors: Actors) -> "Favoured":
        embeddings = actors.backbone.model.get_input_embeddings().weight.detach()
        direction = torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(0))
        side = embeddings @ direction
        return cls(side > side.median())

    def score(self, batch: Scorable) -> Tensor:
        mask = batch.episodes.mask
        return 4 * ((self.tokens[batch.episodes.response_ids] & mask).sum(1) / mask.sum(1) - 0.5)


LEARNABLE: dict[str, object] = {
    "iterations": 16, "batch": 32, "minibatch": 16, "microbatch": 32, "epochs": 4, "lr": 1e-2, "kl_coef": 0.0,
    "lr_schedule": "constant",
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.slow
def test_a_learnable_reward_is_learned_and_the_penalty_holds_the_policy_back(make: Make, tmp_path: Path) -> None:
    found = {}
    for kl_coef in (0.0, 0.2, 1.0):
        folder = tmp_path / str(kl_coef)
        actors = make()
        actors = dataclasses.replace(actors, source=Favoured.of(actors))
        outcome = run(make_setup(actors, make_params(**LEARNABLE | {"kl_coef": kl_coef})), folder)
        rows = curve(folder)
        assert outcome.reason == "completed"
        assert len(rows) == 16
        found[kl_coef] = (float(rows[0]["score"]), outcome.final)
    first, free = found[0.0]
    assert free.score > first + 1.0
    assert free.kl > 1.2 * found[0.2][1].kl > 1.44 * found[1.0][1].kl
    assert free.score > found[1.0][1].score


def test_the_curves_hold_what_happened(make: Make, tmp_path: Path) -> None:
    outcome = run(make_setup(make(), make_params(iterations=4)), tmp_path)
    rows = curve(tmp_path)
    assert [row["iteration"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    wanted = {
        "score", "reward", "kl", "kl_k2", "kl_k3", "entropy", "length", "ended", "clip_fraction", "approx_kl",
        "policy_loss", "value_loss", "explained_variance", "kl_coef", "grad_norm",
    }  # fmt: skip
    assert wanted <= set(rows[0])
    assert outcome.saved_iteration == 4
    assert outcome.reason == "completed"
    assert float(rows[0]["kl"]) == pytest.approx(0, abs=1e-4)


def test_metrics_are_flat_named_and_finite(make: Make, tmp_path: Path) -> None:
    found = metrics(run(make_setup(make(), make_params()), tmp_path))
    assert all(name.startswith("ppo_") for name in found)
    assert all(not isinstance(value, float) or math.isfinite(value) for value in found.values())
    assert found["ppo_stop_reason"] == "completed"
    assert found["ppo_iterations"] == 3
    assert found["ppo_kl_coef_final"] == 0.1
    assert isinstance(found["ppo_check_ratio_gap"], float)
    best = max(float(row["score"]) for row in curve(tmp_path))
    assert found["ppo_score_best"] == pytest.approx(best, rel=1e-5)


@dataclass
class Breaking:
    """TokenShare until call number `at`, then something bad."""

    at: int
    bad: Callable[[Tensor], Tensor]
    inner: TokenShare = field(default_factory=TokenShare)
    calls: int = 0

    def score(self, batch: Scorable) -> Tensor:
        self.calls += 1
        scores = self.inner.score(batch)
        return self.bad(scores) if self.calls == self.at else scores


def policy_after(make: Make, folder: Path, iterations: int, **changes: object) -> dict[str, bytes]:
    """The policy after so many updates of the undisturbed run, its schedule that of 5 iterations."""
    setup = make_setup(make(), make_params(iterations=5, **changes))
    saved: dict[str, bytes] = snapshot(setup.learner.parameters)
    original = module.step

    def stepping(setup: Setup, progress: Progress) -> object:
        nonlocal saved
        if progress.iteration == iterations:
            saved = snapshot(setup.learner.parameters)
        return original(setup, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "step", stepping)
        run(setup, folder)
    return saved


@pytest.mark.parametrize(
    ("bad", "reason", "changes"),
    [
        (lambda s: s * math.nan, "nonfinite_score", {}),
        pytest.param(lambda s: s + math.inf, "nonfinite_score", {}, marks=pytest.mark.thorough),
        (lambda s: s + 50.0, "score_spike", {"score_jump": 3.0}),
    ],
)
def test_a_bad_reward_stops_with_the_last_sound_policy(
    make: Make, tmp_path: Path, bad: Callable[[Tensor], Tensor], reason: str, changes: dict[str, object]
) -> None:
    setup = make_setup(make(Breaking(4, bad)), make_params(iterations=5, **changes))
    outcome = run(setup, tmp_path / "broken")
    assert outcome.reason == reason
    assert outcome.detail
    # The score of iteration 3 (the fourth) is bad, so its policy is under suspicion: that of iteration 2 was sound.
    assert outcome.saved_iteration == 2
    assert snapshot(setup.learner.parameters) == policy_after(make, tmp_path / "sound", 2, **changes)
    found = metrics(outcome)
    assert found["ppo_stop_reason"] == reason
    assert found["ppo_iterations"] == 3
    assert found["ppo_saved_iteration"] == 2
    assert isinstance(found["ppo_score_final"], float)


@pytest.mark.parametrize("what", ["gradient", pytest.param("loss", marks=pytest.mark.thorough)])
def test_a_bad_update_stops_with_the_policy_before_it(make: Make, tmp_path: Path, what: str) -> None:
    setup = make_setup(make(), make_params(iterations=5))
    original = module.step

    def sabotaged(setup: Setup, progress: Progress) -> object:
        if progress.iteration == 2 and what == "gradient":
            last = list(setup.actors.backbone.parameters_of(POLICY).values())[-1]
            last.register_hook(lambda gradient: gradient * math.nan)
        if progress.iteration == 2 and what == "loss":
            calls = {"n": 0}
            head = setup.actors.value_head

            def later(module: object, inputs: object, output: Tensor) -> Tensor:
                calls["n"] += 1
                return output * (math.nan if calls["n"] > 3 else 1.0)  # rollout, two minibatches, then

            head.register_forward_hook(later)
        return original(setup, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "step", sabotaged)
        patch.setattr(module, "_measure", _measure_without_hooks)
        outcome = run(setup, tmp_path / "broken")
    assert outcome.reason == f"nonfinite_{what}"
    assert outcome.saved_iteration == 2
    assert snapshot(setup.learner.parameters) == policy_after(make, tmp_path / "sound", 2)


_real_measure = module._measure


def _measure_without_hooks(setup: Setup, progress: Progress) -> Experience:
    setup.actors.value_head._forward_hooks.clear()
    return _real_measure(setup, progress)


def test_kl_above_its_limit(make: Make, tmp_path: Path) -> None:
    params = make_params(**LEARNABLE | {"kl_limit": 1.0, "lr": 2e-2, "response_tokens": 12})
    setup = make_setup(make(), params)
    outcome = run(setup, tmp_path)
    assert outcome.reason == "kl_limit"
    assert outcome.saved_iteration == len(curve(tmp_path)) - 1 < 15
    assert all(float(row["kl"]) <= 1.0 for row in curve(tmp_path))


def test_entropy_collapse(make: Make, tmp_path: Path) -> None:
    short = LEARNABLE | {"iterations": 6, "batch": 16}
    actors = make()
    run(make_setup(dataclasses.replace(actors, source=Favoured.of(actors)), make_params(**short)), tmp_path / "free")
    entropies = [float(row["entropy"]) for row in curve(tmp_path / "free")]
    floor = (entropies[0] + min(entropies)) / 2
    first = next(i for i, entropy in enumerate(entropies) if entropy < floor)
    actors = make()
    setup = make_setup(
        dataclasses.replace(actors, source=Favoured.of(actors)), make_params(**short | {"entropy_floor": floor})
    )
    outcome = run(setup, tmp_path / "held")
    assert outcome.reason == "entropy_collapse"
    assert outcome.saved_iteration == first - 1 == len(curve(tmp_path / "held")) - 1


def test_a_guard_at_the_very_first_rollout_keeps_the_sft_policy(make: Make, tmp_path: Path) -> None:
    actors = make(Breaking(1, lambda s: s * math.nan))
    setup = make_setup(actors, make_params())
    before = snapshot(setup.learner.parameters)
    outcome = run(setup, tmp_path)
    assert (outcome.reason, outcome.saved_iteration) == ("nonfinite_score", 0)
    assert snapshot(setup.learner.parameters) == before
    assert metrics(outcome)["ppo_iterations"] == 0
    assert metrics(outcome)["ppo_clip_fraction_final"] is None


def test_a_source_that_is_never_finite_still_ends_with_metrics(make: Make, tmp_path: Path) -> None:
    class Never:
        def score(self, batch: Scorable) -> Tensor:
            return torch.full((len(batch.prompts),), math.nan)

    outcome = run(make_setup(make(Never()), make_params()), tmp_path)
    assert outcome.reason == "nonfinite_score"
    assert metrics(outcome)["ppo_score_final"] is None


def test_the_last_policy_has_to_pass_the_guards_as_well(make: Make, tmp_path: Path) -> None:
    # 3 iterations score 3 batches; the fourth is the measurement of what would be saved
    setup = make_setup(make(Breaking(4, lambda s: s * math.nan)), make_params(iterations=3))
    outcome = run(setup, tmp_path)
    assert (outcome.reason, outcome.saved_iteration) == ("nonfinite_score", 2)
    assert len(curve(tmp_path)) == 3


def test_the_validation_reward_stops_a_run_and_the_best_policy_is_kept(make: Make, tmp_path: Path) -> None:
    params = make_params(iterations=9, validation_every=1, validation_patience=2, lr=0.0, value_lr=0.0)
    outcome = run(make_setup(make(), params), tmp_path)  # nothing moves: the first look stays the best
    assert outcome.reason == "validation_reward"
    assert outcome.saved_iteration == 0
    assert len(curve(tmp_path)) == 2
    looks = [float(row["validation_reward"]) for row in curve(tmp_path)]
    assert looks[0] == looks[1]  # the same prompts and random numbers


def test_the_best_validated_policy_is_kept_where_a_run_completes(make: Make, tmp_path: Path) -> None:
    params = make_params(**LEARNABLE | {"iterations": 6, "validation_every": 2, "validation_patience": 9})
    outcome = run(make_setup(make(), params), tmp_path)
    looks = [row["validation_reward"] for row in curve(tmp_path)]
    assert [bool(look) for look in looks] == [True, False] * 3
    assert outcome.progress.best is not None
    assert outcome.saved_iteration in (0, 2, 4, 6)
    assert outcome.progress.best.reward >= max(float(look) for look in looks if look) - 1e-5


def test_an_interrupted_run_resumes_to_the_same_bytes(make: Make, tmp_path: Path) -> None:
    params = make_params(
        iterations=5, validation_every=2, validation_patience=9, kl_controller="adaptive", kl_target=0.01
    )
    whole = make_setup(make(), params)
    outcome = run(whole, tmp_path / "whole")

    parts = make_setup(make(), params)
    original = module.step

    def interrupted(setup: Setup, progress: Progress) -> object:
        import os
        import signal

        if progress.iteration in (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(setup, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "step", interrupted)
        for _ in range(2):
            with pytest.raises(Stopped):
                run(parts, tmp_path / "parts")
            parts = make_setup(make(), params)  # a new process knows nothing
        again = run(parts, tmp_path / "parts")
    assert snapshot(parts.learner.parameters) == snapshot(whole.learner.parameters)
    assert again.final == outcome.final
    assert metrics(again) == metrics(outcome)
    assert (tmp_path / "parts" / "ppo.csv").read_bytes() == (tmp_path / "whole" / "ppo.csv").read_bytes()
    logs = [list(EpisodeLog(tmp_path / name / "checkpoints", 4).rows()) for name in ("parts", "whole")]
    assert logs[0] == logs[1]
    assert {row["iteration"] for row in logs[0]} <= set(range(6))


def test_checkpointing_changes_nothing(make: Make, tmp_path: Path) -> None:
    setups = [make_setup(make(), make_params(iterations=3)) for _ in range(2)]
    for setup, every in zip(setups, (0, 1), strict=True):
        run(setup, tmp_path / str(every), every=every)
    assert snapshot(setups[0].learner.parameters) == snapshot(setups[1].learner.parameters)
