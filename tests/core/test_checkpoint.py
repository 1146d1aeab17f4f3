"""Checkpoints survive kills and truncation, and never serve another run."""

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from rlhf.core.checkpoint import Checkpoints, checkpoint_root, fingerprint, seal, sealed
from rlhf.core.errors import UserError


def make(root: Path) -> Checkpoints:
    return Checkpoints(root / "stage-0123", every_s=1e9, every_steps=5)


def test_round_trip_keeps_tensors_and_full_float_precision(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    assert checkpoints.latest() is None
    value = torch.randn(3, 2, dtype=torch.float64)
    checkpoints.save(7, {"w": value}, {"kl": 0.1 + 0.2, "rows": [{"a": 1}]})
    found = make(tmp_path).latest()
    assert found is not None
    assert found.step == 7
    assert torch.equal(found.tensors["w"], value)
    assert found.state == {"kl": 0.30000000000000004, "rows": [{"a": 1}]}


def test_due_by_steps_since_the_last_save_or_resume(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    assert [s for s in range(1, 8) if checkpoints.due(s)] == [5, 6, 7]
    checkpoints.save(6, {}, {})
    assert not checkpoints.due(10)
    assert checkpoints.due(11)
    resumed = make(tmp_path)
    resumed.latest()
    assert not resumed.due(10)


def test_due_by_time(tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path / "s", every_s=3600, every_steps=0).due(1000)
    checkpoints = Checkpoints(tmp_path / "s", every_s=0.05, every_steps=0)
    time.sleep(0.06)
    assert checkpoints.due(1001)


def test_keeps_the_two_newest_and_clears_all(tmp_path: Path) -> None:
    checkpoints = make(tmp_path)
    for step in (1, 2, 10):
        checkpoints.save(step, {}, {})
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["step-000000002", "step-000000010"]
    checkpoints.clear()
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip", "no manifest", "empty manifest"])
def test_a_broken_checkpoint_costs_one_save_and_not_the_run(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = make(tmp_path)
    checkpoints.save(1, {"w": torch.zeros(4)}, {"n": 1})
    checkpoints.save(2, {"w": torch.ones(4)}, {"n": 2})
    folder = checkpoints.folder / "step-000000002"
    tensors, manifest = folder / "tensors.safetensors", folder / "manifest.json"
    if damage == "truncate":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "delete":
        tensors.unlink()
    elif damage == "flip":
        data = bytearray(tensors.read_bytes())
        data[-1] ^= 1
        tensors.write_bytes(data)
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("")
    found = make(tmp_path).latest()
    assert found is not None
    assert found.state == {"n": 1}
    assert "step-000000002: broken checkpoint" in capsys.readouterr().err


def save_for_ever(root: Path, ready: Event) -> None:
    """As fast as it can, from the newest on."""
    checkpoints = Checkpoints(root, every_s=1e9, every_steps=1)
    found = checkpoints.latest()
    step = found.step if found else 0
    assert found is None or float(found.tensors["w"][0]) == step
    ready.set()
    while True:
        step += 1
        checkpoints.save(step, {"w": torch.full((20_000,), float(step))}, {"step": step})


def test_killed_at_random_moments_the_newest_checkpoint_is_always_whole(tmp_path: Path) -> None:
    """After each SIGKILL a whole checkpoint must be there, and steps never go back."""
    forks, seen = multiprocessing.get_context("fork"), 0
    for attempt in range(6):
        ready = forks.Event()
        process = forks.Process(target=save_for_ever, args=(tmp_path / "run", ready))
        process.start()
        assert ready.wait(120)
        while attempt and not list(tmp_path.glob("run/step-*")):  # a machine that has much else to do
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(0.03 + 0.037 * attempt)
        process.kill()
        process.join()
        found = Checkpoints(tmp_path / "run", every_s=1, every_steps=1).latest()
        assert found is not None or seen == 0
        if found is not None:
            assert found.step >= seen
            assert found.state == {"step": found.step}
            seen = found.step
    assert seen > 0


def test_fingerprint_covers_params_names_and_bytes_but_not_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    first = fingerprint({"x": 1, "y": 2}, [a, b])
    assert first == fingerprint({"y": 2, "x": 1}, [b, a])
    assert first != fingerprint({"x": 1, "y": 3}, [a, b])
    assert first != fingerprint({"x": 1, "y": 2}, [a])
    b.write_text("3")
    assert first != fingerprint({"x": 1, "y": 2}, [a, b])
    with pytest.raises(UserError, match="missing"):
        fingerprint({}, [tmp_path / "missing"])


def test_seal_notices_change(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "f").write_text("x")
    assert not sealed(tmp_path)
    seal(tmp_path)
    assert sealed(tmp_path)
    (tmp_path / "deep" / "f").write_text("y")
    assert not sealed(tmp_path)


def test_the_root_is_absolute_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLHF_CHECKPOINT_DIR", raising=False)
    assert checkpoint_root(Path(".checkpoints")) == Path(".checkpoints")
    monkeypatch.setenv("RLHF_CHECKPOINT_DIR", str(tmp_path))
    assert checkpoint_root(Path(".checkpoints")) == tmp_path
    monkeypatch.setenv("RLHF_CHECKPOINT_DIR", "here")
    with pytest.raises(UserError, match="RLHF_CHECKPOINT_DIR: found 'here'"):
        checkpoint_root(Path(".checkpoints"))
