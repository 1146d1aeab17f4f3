"""Killed with SIGKILL at any moment and run again, the stage ends with the bytes of a run that was never killed."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from rlhf.core.checkpoint import Checkpoints
from rlhf.ppo import train as module
from rlhf.ppo.state import Progress
from rlhf.ppo.step import Setup
from tests.ppo import disk
from tests.ppo.worlds import make_params
from tests.stages.forker import Forker, Hit

REPOSITORY = Path(__file__).resolve().parents[2]
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
LOOKS = {"validation_every": 3, "validation_by": "referee", "validation_patience": 99}
LONG = {"iterations": 14, "kl_controller": "adaptive", **LOOKS}
SHORTER = LONG | {"iterations": 6}


def copy(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder)
    return folder


def start(root: Path, checkpoints: Path, quiet: Path, iterations: int) -> int:
    """The stage in a child process of the same program (which has imported everything); returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(root)
        with quiet.open("a") as sink:
            os.dup2(sink.fileno(), 2)
        disk.run(root, make_params(**LONG | {"iterations": iterations}), checkpoints)
        code = 0
    finally:
        os._exit(code)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(("iterations", "least"), [(6, 4), (14, 10)], ids=["short", "long"])
def test_killed_at_random_moments(template: Path, tmp_path: Path, iterations: int, least: int) -> None:
    whole = copy(template, tmp_path / "whole")
    _, status = os.waitpid(start(whole, tmp_path / "c1", tmp_path / "err1", iterations), 0)
    assert status == 0, (tmp_path / "err1").read_text()

    broken = copy(template, tmp_path / "broken")
    chance, kills = random.Random(5), 0
    while True:
        child = start(broken, tmp_path / "c2", tmp_path / "err2", iterations)
        # At startup (every fourth), else somewhere in the iteration that follows the next checkpoint, its own saving
        # and, near the end, the writing of the outs included.
        if kills % 4:
            wait_for_checkpoints(tmp_path / "c2", more_than=newest(tmp_path / "c2"), child=child)
        time.sleep(chance.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)  # until waited for, a child that has ended is still there to be killed
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            # DVC removes a stage's outs before it runs again; temporary files of the dead lie about.
            shutil.rmtree(broken / "plots", ignore_errors=True)
            shutil.rmtree(broken / "artifacts" / "ppo", ignore_errors=True)
            continue
        assert status == 0, (tmp_path / "err2").read_text()
        break
    assert kills >= least
    assert disk.outputs(broken) == disk.outputs(whole)


def as_project(root: Path) -> Path:
    for name in ("rlhf", "stages", "dvc.yaml"):
        (root / name).symlink_to(REPOSITORY / name)
    (root / "artifacts" / "conformance").mkdir()
    (root / "artifacts" / "conformance" / "engines.json").write_text('{"engines": ["fast", "plain"]}')
    (root / "inputs" / "reward").mkdir(parents=True)  # a dependency of the stage, empty unless ppo.source is function
    disk.write_resolved(root, **SHORTER)
    # What the stage checks itself against: params.yaml and a profile that make just these values.
    resolved = {"profile": "empty", **json.loads((root / "params.resolved.json").read_text())}
    made = resolved | {"diagnose": {"fail_on": []}, "evaluate": {}}
    asked = resolved | {"diagnose": {}, "evaluate": {"fail_on": []}}
    (root / "params.resolved.json").write_text(json.dumps(made))
    (root / "params.yaml").write_text(json.dumps(asked))  # JSON is YAML too
    (root / "profiles").mkdir()
    (root / "profiles" / "empty.yaml").write_text("{}\n")
    return root


@pytest.mark.slow
@pytest.mark.pipeline
def test_the_command_killed_and_stopped(
    forker: Forker, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at startup and while it trains, then SIGTERM (which says how to resume), then to the end."""
    whole, broken = copy(template, tmp_path / "whole"), as_project(copy(template, tmp_path / "broken"))
    monkeypatch.chdir(whole)
    disk.run(whole, make_params(**SHORTER), tmp_path / "c")
    for hit in (Hit("start", delay=0.05), Hit("save", 12)):
        assert forker.run("ppo", broken, hit).signal == signal.SIGKILL
    stopped = forker.run("ppo", broken, Hit("save", 12, signal=signal.SIGTERM))
    assert stopped.code == 130, stopped.said
    assert "resumes" in stopped.said
    ended = forker.run("ppo", broken)
    assert ended.code == 0, ended.said
    assert "resuming after" in ended.said
    made = disk.outputs(broken)
    assert b"library_name: peft" in made.pop("artifacts/ppo/README.md")  # the command's own: the model card
    assert made == disk.outputs(whole)
    assert "ppo" in json.loads((broken / "provenance" / "ppo.json").read_text())["params"]
    assert not list((broken / ".checkpoints").iterdir())


def newest(checkpoints: Path) -> int:
    return max((int(p.name[5:]) for p in checkpoints.glob("*/step-*")), default=0)


def wait_for_checkpoints(checkpoints: Path, *, more_than: int, child: int) -> None:
    """Until there is a newer one, or the child has ended."""
    for _ in range(30_000):  # a loaded machine may take a minute to start
        if newest(checkpoints) > more_than or os.waitid(os.P_PID, child, ENDED) is not None:
            return
        time.sleep(0.01)
    raise AssertionError("no checkpoint within five minutes")


def test_other_parameters_never_pick_up_a_stale_checkpoint(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(setup: Setup, progress: Progress) -> object:
        if progress.iteration == 2:
            raise KeyboardInterrupt
        return original(setup, progress)

    original = module.step
    root, checkpoints = copy(template, tmp_path / "one"), tmp_path / "checkpoints"
    monkeypatch.chdir(root)
    monkeypatch.setattr(module, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        disk.run(root, make_params(), checkpoints)
    assert len(list(checkpoints.glob("ppo-*/step-*"))) == 2
    monkeypatch.setattr(module, "step", original)
    disk.run(root, make_params(kl_coef=0.2), checkpoints)  # finds nothing to resume
    found = disk.outputs(root)
    other = copy(template, tmp_path / "other")
    monkeypatch.chdir(other)
    disk.run(other, make_params(kl_coef=0.2), tmp_path / "fresh")
    assert disk.outputs(other) == found
    assert len(list(checkpoints.glob("ppo-*/step-*"))) == 2  # those of the first run still wait for it


def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy(template, tmp_path / "whole")
    monkeypatch.chdir(root)
    disk.run(root, make_params(iterations=4), tmp_path / "c1")
    original = module.step

    def stopping(setup: Setup, progress: Progress) -> object:
        if progress.iteration == 3:
            raise KeyboardInterrupt
        return original(setup, progress)

    broken = copy(template, tmp_path / "broken")
    monkeypatch.chdir(broken)
    monkeypatch.setattr(module, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        disk.run(broken, make_params(iterations=4), tmp_path / "c2")
    monkeypatch.setattr(module, "step", original)
    newest_folder = max((tmp_path / "c2").glob("ppo-*/step-*"))
    tensors = newest_folder / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    disk.run(broken, make_params(iterations=4), tmp_path / "c2")
    assert "broken checkpoint" in capsys.readouterr().err
    assert disk.outputs(broken) == disk.outputs(root)


def test_a_checkpoint_is_plain_data(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy(template, tmp_path / "one")
    monkeypatch.chdir(root)
    kept: list[Path] = []
    monkeypatch.setattr(Checkpoints, "clear", lambda self: kept.append(self.folder))
    disk.run(root, make_params(validation_every=1), tmp_path / "c")
    (folder,) = kept
    last = max(folder.glob("step-*"))
    assert {p.name for p in last.iterdir()} == {"tensors.safetensors", "state.json", "manifest.json"}
    state = json.loads((last / "state.json").read_text())
    assert state["sound"]["iteration"] == 2
    assert len(state["rows"]) == 3
