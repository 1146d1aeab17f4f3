"""Pretraining by one, two and four processes gives the same bytes."""

from pathlib import Path

import pytest

from rlhf.base.make import make_base
from rlhf.base.params import BaseParams
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from rlhf.core.processes import Processes
from tests.base.helpers import PRETRAIN, cpu
from tests.base.test_pretrain import TEXTS, project
from tests.processes import ended, start, together

SMALL = PRETRAIN | {"shards": 4, "steps": 12, "eval_every": 4, "log_every": 2}


def ready(root: Path) -> None:
    """Write what the stage reads, before any process looks for it."""
    root.mkdir()
    project(root, [{"text": text} for text in TEXTS])


def work(root: Path, every: int = 0, **changes: object) -> None:
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": SMALL | changes}
    )
    make_base(params, Layout(root), cpu(2), Checkpoints(root / "checkpoints", every_s=1e9, every_steps=every))


def outputs(root: Path) -> dict[str, bytes]:
    files = [root / "plots" / "base.csv", *sorted((root / "artifacts" / "base").rglob("*"))]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def run(root: Path, size: int, **changes: object) -> dict[str, bytes]:
    ready(root)
    together(size, root / "meeting", lambda here: work(root, **changes))
    return outputs(root)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.thorough)])
def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path, alone: dict[str, bytes], size: int) -> None:
    assert run(tmp_path / "run", size) == alone


def test_shards_change_rounding_alone(tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Other bytes, so that the test above shows something; the same losses, so that shards are the same training."""
    whole = run(tmp_path / "run", 1, shards=1)
    name = "artifacts/base/model.safetensors"
    assert whole[name] != alone[name]
    for a, b in zip(rows(whole), rows(alone), strict=True):
        assert a == pytest.approx(b, rel=1e-3)


def rows(found: dict[str, bytes]) -> list[list[float]]:
    lines = found["plots/base.csv"].decode().splitlines()[1:]
    return [[float(cell.strip('"')) for cell in line.split(",") if cell.strip('"')] for line in lines]


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 4])
def test_stopped_at_two_and_resumed_at_one_and_four(
    tmp_path: Path, alone: dict[str, bytes], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process is killed after a checkpoint; any number goes on."""
    root = tmp_path / "run"
    ready(root)

    def until_seven(here: Processes) -> None:
        from rlhf.training import trainer_checkpoints as module

        real = module.Keeper.on_step_end

        def planted(self: module.Keeper, args: object, state: object, control: object, **kwargs: object) -> None:
            real(self, args, state, control, **kwargs)  # type: ignore[arg-type] # as they came
            if state.global_step == 7 and here.rank == 1:  # type: ignore[attr-defined] # as above
                import os

                os._exit(9)

        module.Keeper.on_step_end = planted  # type: ignore[method-assign, assignment] # in a child that ends
        work(root, every=3)

    assert ended(start(2, tmp_path / "first", until_seven)) == [75, 9]
    assert list(root.glob("checkpoints/checkpoint-*"))
    together(size, tmp_path / "second", lambda here: work(root, every=3))
    assert outputs(root) == alone
