"""What is not exported, and what the one line says instead."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.export.causal import export_merged
from rlhf.export.destination import export_dir
from rlhf.export.reward import export_classifier
from rlhf.export.run import fulfil, orders, skipped
from rlhf.export.verify import must_agree
from rlhf.models.reward.ensemble import Ensemble
from stages.export import main
from tests.export.worlds import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> World:
    world = World.make(tmp_path_factory.mktemp("run") / "run", tiny_model_dir)
    world.fit(pooling="mean", pool_over="response")
    return world


def test_poolings_that_classifiers_do_not_have(world: World, tmp_path: Path) -> None:
    at = world.layout
    for changes, remedy in (
        ({"pooling": "mean"}, r"reward\.pooling=last, or export it as --kind reward-parts"),
        ({"pooling": "last", "ensemble": Ensemble(2, "worst", 0.5)}, r"reward\.aggregate=mean"),
        ({"pooling": "last", "ensemble": Ensemble(2, "uncertainty", 0.5)}, r"reward\.aggregate=mean"),
    ):
        world.fit(pool_over="response", **changes)
        with pytest.raises(UserError, match=remedy):
            export_classifier(at.base, at.sft, at.reward, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    world.fit(pooling="mean", pool_over="response")


def test_all_models_and_one(world: World, tmp_path: Path) -> None:
    at = world.layout
    every = [(order.model, order.kind) for order in orders(at, None, None, None)]
    policies = [(name, kind) for name in ("sft", "ppo", "offline/dpo") for kind in ("adapter", "merged")]
    assert every == [("base", "merged"), *policies, ("reward", "reward"), ("reward", "reward-parts")]
    (one,) = orders(at, "offline/dpo", "adapter", None)
    assert one.to == at.root / "exports" / "offline/dpo" / "adapter"
    assert [order.to for order in orders(at, "ppo", "merged", tmp_path / "x")] == [tmp_path / "x"]
    assert [order.to for order in orders(at, "ppo", None, tmp_path)] == [
        tmp_path / "ppo/adapter",
        tmp_path / "ppo/merged",
    ]
    left = [order.kind for order in orders(at, "reward", None, None) if skipped(at, order)]
    assert left == ["reward"]
    for model, kind, match in (
        ("dpo", None, "found: base, sft, ppo, offline/dpo"),
        ("ppo", "reward", "model 'ppo' has nothing of kind reward"),
        ("base", "adapter", "model 'base' has nothing of kind adapter"),
    ):
        with pytest.raises(UserError, match=match):
            orders(at, model, kind, None)
    with pytest.raises(UserError, match="dvc repro"):
        orders(Layout(tmp_path / "empty"), None, None, None)


def test_only_exports_are_replaced(world: World, tmp_path: Path) -> None:
    (one,) = orders(world.layout, "sft", "adapter", tmp_path / "out")
    fulfil(world.layout, one)
    fulfil(world.layout, one)
    about = json.loads((one.to / "export.json").read_text())
    assert (about["model"], about["kind"], len(about["made_from"])) == ("sft", "adapter", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(UserError, match="is no export"), export_dir(taken, about={}, inputs=[]):
            pass
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_export_that_differs_is_not_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that forgets the adapter, as a library's fault would."""
    at = world.layout
    monkeypatch.setattr("rlhf.export.causal.merge", lambda backbone: backbone.model.unload())
    with pytest.raises(UserError, match=r"numbers are off by .*; nothing was written"):
        export_merged("ppo", at.ppo, at.base, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="off by nan"):
        must_agree("x", torch.tensor([float("nan")]), torch.tensor([1.0]))


def test_the_command(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the run's folder, with one line for what is wrong."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(world.layout.root)
    done = CliRunner().invoke(main, ["--model", "offline/dpo", "--kind", "adapter"])
    assert (done.exit_code, done.stdout) == (0, "exports/offline/dpo/adapter\n")
    assert Path("exports/offline/dpo/adapter/README.md").is_file()
    refused = CliRunner().invoke(main, ["--model", "reward", "--kind", "reward", "--to", str(tmp_path / "r")])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: artifacts/reward: reward.pooling is mean")
    assert refused.stderr.count("\n") == 1
