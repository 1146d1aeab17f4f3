"""PPO that is chosen and stopped by the referee."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf.core.artifacts import read_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import read_rows
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.reward.encoder import SentenceEncoder
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.referee import save_referee
from rlhf.ppo import train as module
from rlhf.ppo.reward_sources import EncoderSource, RewardSource, Scorable
from rlhf.ppo.run import run_ppo
from rlhf.ppo.state import Progress
from rlhf.ppo.step import Setup
from rlhf.ppo.train import Outcome
from rlhf.ppo.types import Prompt
from tests.ppo import disk
from tests.ppo.test_train import LEARNABLE, curve, run
from tests.ppo.worlds import TokenShare, make_actors, make_params, make_runtime, make_setup

Run = Callable[..., Outcome]
EVERY: dict[str, object] = {"validation_every": 1, "validation_by": "referee"}


@dataclass
class Constant:
    """Likes everything alike."""

    value: float

    def score(self, batch: Scorable) -> Tensor:
        return torch.full((len(batch.prompts),), self.value)


@pytest.fixture
def refereed(tiny_model_dir: Path, tiny_adapter_dir: Path, tmp_path: Path) -> Run:
    def go(referee: RewardSource | None, name: str, **changes: object) -> Outcome:
        actors = replace(make_actors(tiny_model_dir, tiny_adapter_dir), referee=referee)
        return run(make_setup(actors, make_params(**LEARNABLE | changes)), tmp_path / name)

    return go


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(template, tmp_path, dirs_exist_ok=True)


def test_a_referee_that_disagrees_stops_the_run_at_its_best_policy(refereed: Run, tmp_path: Path) -> None:
    """The policy learns what the reward likes; the referee dislikes just that, so that its best is the start."""
    settings = {"iterations": 5, "kl_coef": 0.0}
    stopped = refereed(TokenShare(-4.0), "stopped", **settings, validation_patience=3, **EVERY)
    assert (stopped.reason, stopped.saved_iteration) == ("validation_referee", 0)
    assert "3 looks" in stopped.detail
    rows = curve(tmp_path / "stopped")
    looks = [float(row["validation_reward"]) for row in rows]
    assert max(looks) == looks[0]

    own = refereed(None, "own", **settings, validation_patience=99, validation_every=1)
    assert own.reason == "completed"
    assert own.saved_iteration > 1
    whole = curve(tmp_path / "own")
    for row, other in zip(rows, whole, strict=False):  # validation draws nothing that training draws
        assert {**row, "validation_reward": ""} == {**other, "validation_reward": ""}


def test_the_referees_score_is_taken_without_a_kl_penalty(refereed: Run, tmp_path: Path) -> None:
    found = refereed(Constant(0.75), "run", iterations=4, validation_patience=99, kl_coef=5.0, **EVERY)
    assert [float(row["validation_reward"]) for row in curve(tmp_path / "run")] == [0.75] * 4
    assert found.progress.best is not None
    assert found.progress.best.iteration == 0
    assert found.final.kl == pytest.approx(0.0, abs=1e-4)  # the start is saved: equal looks are no new best


def test_the_referee_is_the_second_reward_model(root: Path) -> None:
    """Its head is the first one's negated: at the start, without KL, raw scores of the two cancel."""
    layout, looks = Layout(), {}
    for source in ("reward", "referee"):
        settings = make_params(
            validation_every=1, validation_by=source, validation_patience=99, score_clip=0, iterations=1
        )
        disk.run(root, settings, root / "checkpoints")
        metrics = read_json(layout.metrics("ppo"))
        assert metrics["ppo_validation_by"] == source
        looks[source] = float(read_rows(layout.plot("ppo"))[0]["validation_reward"])
    mean, std = (float(read_json(layout.reward / "reward.json")[key]) for key in ("mean", "std"))
    assert looks["reward"] + looks["referee"] == pytest.approx(-2 * mean / std, abs=1e-4)
    disk.run(root, make_params(), root / "checkpoints")
    assert read_json(layout.metrics("ppo"))["ppo_validation_by"] is None


def test_a_referee_on_an_encoder_reads_the_texts(
    root: Path, tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is the mean of the scores that the saved referee gives to the texts, each shard by itself."""
    layout, seen, marks = Layout(), list[tuple[str, str]](), list[int]()
    referee = EncoderReferee.unfitted(SentenceEncoder.load(tiny_encoder_dir))
    with torch.no_grad():
        referee.head.line.weight.copy_(torch.randn(1, 72, generator=torch.Generator().manual_seed(0)))
    shutil.rmtree(layout.referee)
    save_referee(referee, layout.referee, base=layout.base, sft=layout.sft)
    original, look_at = EncoderSource.score, module.validation_reward

    def noting(self: EncoderSource, batch: Scorable) -> Tensor:
        seen.extend(zip(batch.prompts, batch.responses, strict=True))
        return original(self, batch)

    def marking(setup: Setup, prompts: list[Prompt]) -> float:
        marks.append(len(seen))
        return look_at(setup, prompts)

    monkeypatch.setattr(EncoderSource, "score", noting)
    monkeypatch.setattr(module, "validation_reward", marking)
    settings = make_params(validation_patience=99, score_clip=0, missing_eos="keep", iterations=1, **EVERY)
    disk.run(root, settings, root / "checkpoints")
    look = float(read_rows(layout.plot("ppo"))[0]["validation_reward"])
    first = seen[: [*marks, len(seen)][1]]
    scores = referee.score_texts([prompt for prompt, _ in first], [reply for _, reply in first], batch_tokens=999)
    assert look == pytest.approx(sum(scores) / len(scores), abs=1e-4)
    assert max(scores) - min(scores) > 0.01


@pytest.mark.thorough
def test_stopped_between_two_misses_it_resumes_to_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_params(
        lr=0.0, value_lr=0.0, iterations=9, validation_patience=3, **EVERY
    )  # no look beats the first
    whole = root / "whole"
    shutil.copytree(root / "artifacts", whole / "artifacts")
    monkeypatch.chdir(whole)
    disk.run(whole, settings, root / "c1")
    metrics = read_json(Layout().metrics("ppo"))
    assert (metrics["ppo_stop_reason"], metrics["ppo_saved_iteration"], metrics["ppo_iterations"]) == (
        "validation_referee", 0, 3,
    )  # fmt: skip

    def stopping(setup: Setup, progress: Progress) -> object:
        if progress.iteration == 2:
            raise KeyboardInterrupt
        return original(setup, progress)

    original = module.step
    monkeypatch.chdir(root)
    monkeypatch.setattr(module, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        disk.run(root, settings, root / "c2")
    monkeypatch.setattr(module, "step", original)
    disk.run(root, settings, root / "c2")
    assert disk.outputs(root) == disk.outputs(whole)


def test_without_a_second_reward_model_it_is_an_error(root: Path) -> None:
    layout, settings = Layout(), make_params(**EVERY)
    shutil.rmtree(layout.referee)
    checkpoints = Checkpoints(root / "c", every_s=1.0, every_steps=0)
    with pytest.raises(UserError, match=r"artifacts/referee: no reward\.json"):
        run_ppo(layout, settings, make_runtime(), checkpoints)
    save_referee(None, layout.referee, base=layout.base, sft=layout.sft)
    with pytest.raises(UserError, match=r"ppo\.validation_by: found 'referee'.*allowed: reward, or a share above 0"):
        disk.run(root, settings, root / "checkpoints")
    disk.run(root, make_params(validation_by="referee"), root / "checkpoints")  # no validation, no referee
