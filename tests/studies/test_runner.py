"""Studies run each stage once, and again only if something that it depends on changed."""

import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, write_text
from rlhf.core.errors import UserError
from rlhf.core.intact import check_read, read_records
from rlhf.core.layout import Layout
from rlhf.core.provenance import write_provenance
from studies import marks, runner
from studies.command import run_command
from studies.folder import put
from studies.marks import is_made
from studies.planted import plants
from studies.run import ROOT, Run, Tamper, seed_run, touched
from studies.runner import make
from tests.studies.pretend import pretend_stages, write_outs

FORK: Any = multiprocessing.get_context("fork")
BEFORE, AFTER = ("prepare", "base", "conformance", "sft", "reward"), ("ppo", "evaluate")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """Stages that write their outputs and nothing else; gives those called since last asked."""
    return pretend_stages(monkeypatch, tmp_path / "calls")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the runs of `on_seed` were made, a process for each stage."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        pretend_stages(patch, folder.with_name("made-calls"))
        finish(on_seed(folder))
    return folder


@pytest.fixture
def work(tmp_path: Path, made: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)


def finish(*runs: Run, processes: int = 1) -> list[str]:
    return [run.folder.name for run in make(runs, processes)]


def steps(folder: str, *names: str) -> list[str]:
    return [f"{folder}: {name}" for name in names]


def on_seed(work: Path, changes: dict[str, object] | None = None, **more: Any) -> Run:
    return Run(work / "run", {"seed": 5, **(changes or {})}, AFTER, seed_run(work, 5, BEFORE), **more)


def test_a_planted_run_is_stale_when_a_parameter_of_a_dotted_name_changed(
    called: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = next(plants.planned("judged"))
    finish(plant.run(tmp_path))
    assert called() == steps("seed-1", *BEFORE) + steps(plant.name, *AFTER)
    assert is_made(plant.run(tmp_path))
    finish(plant.run(tmp_path))
    assert called() == []

    monkeypatch.setattr(plants, "SCALED", {**plants.SCALED, "ppo.response_tokens": 24})
    assert not is_made(plant.run(tmp_path))
    finish(plant.run(tmp_path))
    again = [*steps("seed-1", "prepare", "conformance"), f"{plant.name}: ppo"]
    assert called() == again  # the others read nothing that changed


def test_only_stages_that_declare_a_parameter_run_again(called: Callable[[], list[str]], tmp_path: Path) -> None:
    finish(on_seed(tmp_path))
    assert called() == steps("seed5", *BEFORE) + steps("run", *AFTER)
    assert finish(on_seed(tmp_path, {"ppo.kl_coef": 0.7})) == ["seed5", "run"]
    assert called() == ["run: ppo"]
    finish(on_seed(tmp_path, {"ppo.kl_coef": 0.7, "diagnose.undertrained.kl.failed": 0.01}))
    assert called() == []


def test_what_changed_upstream_is_noticed_and_what_is_gone_is_made_again(
    called: Callable[[], list[str]], work: Path
) -> None:
    write_text(work / "seed5/artifacts/reward/file", "another")
    finish(on_seed(work))
    assert called() == ["run: ppo", "run: evaluate"]
    shutil.rmtree(work / "run/artifacts/ppo")
    finish(on_seed(work))
    assert called() == ["run: ppo"]


def test_changed_code_is_noticed(called: Callable[[], list[str]], work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "code_in_memory", lambda stage: f"new code of {stage == 'sft'}")
    finish(on_seed(work))
    assert called() == steps("seed5", *BEFORE) + steps("run", *AFTER)
    monkeypatch.setattr(marks, "code_in_memory", lambda stage: f"new code of {stage in ('sft', 'ppo')}")
    finish(on_seed(work))
    assert called() == ["run: ppo"]


def test_code_counts_by_the_folders_that_a_stage_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rlhf", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / ".dvcignore", tmp_path / ".dvcignore")
    monkeypatch.setattr(marks, "ROOT", tmp_path)
    before = {stage: marks.code_now(stage) for stage in ("prepare", "ppo")}
    write_text(tmp_path / "rlhf/prepare/__pycache__/build.pyc", "x")
    write_text(tmp_path / "rlhf/ppo/notes.md", "x")
    assert {stage: marks.code_now(stage) for stage in before} == before
    write_text(tmp_path / "rlhf/ppo/new.py", "x = 1\n")
    assert marks.code_now("prepare") == before["prepare"]
    assert marks.code_now("ppo") != before["ppo"]
    write_text(tmp_path / "rlhf/core/new.py", "x = 1\n")
    assert marks.code_now("prepare") != before["prepare"]


def test_seeds_are_shared_by_links_and_runs_own_what_they_make(called: Callable[[], list[str]], tmp_path: Path) -> None:
    seed = seed_run(tmp_path, 5, BEFORE)
    own = Run(tmp_path / "own", {"seed": 5, "reward.lr": 0.01}, ("reward", *AFTER), seed)
    assert finish(on_seed(tmp_path), own, processes=2)[0] == "seed5"
    assert called()[: len(BEFORE)] == steps("seed5", *BEFORE)
    assert (tmp_path / "run/artifacts/reward").resolve() == tmp_path / "seed5/artifacts/reward"
    assert not (tmp_path / "own/artifacts/reward").is_symlink()
    assert own.metrics() == {f"{stage}_text": "made" for stage in (*BEFORE, *AFTER)}

    finish(Run(tmp_path / "own", {"seed": 5}, AFTER, seed))  # now it shares the reward model
    assert (tmp_path / "own/artifacts/reward").is_symlink()
    called()
    finish(own)  # and now again it does not
    assert called() == ["own: reward"]  # PPO read the same bytes
    assert not (tmp_path / "own/artifacts/reward").is_symlink()
    assert (tmp_path / "seed5/artifacts/reward/file").is_file()


def test_a_shared_stage_must_have_the_parameters_of_the_run(called: Callable[[], list[str]], tmp_path: Path) -> None:
    changes: dict[str, object] = {"ppo.validation_every": 5}
    with pytest.raises(UserError, match=r"run: stage prepare of .*seed5 has another value of ppo\.validation_every"):
        finish(on_seed(tmp_path, changes))
    assert called() == []
    assert touched(BEFORE, changes) == ("prepare",)
    assert touched(BEFORE, ["reward.tune.lr"]) == ("reward",)
    assert touched(BEFORE, ["ppo.kl_coef", "evaluate.prompts"]) == ()
    assert touched(BEFORE, ["runtime"]) == ("base", "conformance", "sft", "reward")


def test_a_key_that_is_not_there_stops_before_anything_runs(called: Callable[[], list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: no key ppo\.kl_coeff"):
        finish(on_seed(tmp_path, {"ppo.kl_coeff": 0.1}))
    with pytest.raises(UserError, match=r"no key runtime\.threads\.many"):
        put({"runtime": {"threads": 1}}, {"runtime.threads.many": 2}, where="here")
    assert called() == []


def test_what_no_run_makes_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ppo needs"):
        finish(Run(tmp_path / "alone", {}, ("ppo",)))


def test_a_declared_parameter_that_is_not_there_is_an_error_and_null_is_a_value() -> None:
    resolved = {"ppo": {"validation_every": None}, "seed": 1}
    assert marks._declared_value(resolved, "ppo.validation_every", "x") is None
    assert marks._declared_value(resolved, "seed", "x") == 1
    for name in ("ppo.response_token", "seed.more", "no"):
        with pytest.raises(UserError, match=f"declares {name}"):
            marks._declared_value(resolved, name, "x")


def test_a_stage_that_fails_is_named_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def act(stage: str) -> None:
        write_outs(stage)
        if stage == "sft" and Path.cwd().name == "seed5":
            print("one\ntwo\nthree\nthe last word")
            raise SystemExit(3)

    called = pretend_stages(monkeypatch, tmp_path / "calls", act)
    other = Run(tmp_path / "other", {}, BEFORE)
    with pytest.raises(UserError) as failed:
        finish(on_seed(tmp_path), other, processes=2)
    lines = str(failed.value).splitlines()
    assert lines[0].endswith("seed5: sft ended with status 3: two | three | the last word")
    assert lines[1:] == ["run: needs seed5"]
    assert is_made(other)

    called()
    pretend_stages(monkeypatch, tmp_path / "calls")
    finish(on_seed(tmp_path), other)
    assert called() == steps("seed5", "sft", "reward") + steps("run", *AFTER)


def test_a_stage_that_is_killed_is_not_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def act(stage: str) -> None:
        write_outs(stage, "half")
        os.kill(os.getpid(), signal.SIGKILL)

    pretend_stages(monkeypatch, tmp_path / "calls", act)
    with pytest.raises(UserError, match="prepare ended with status -9"):
        finish(seed_run(tmp_path, 5, ("prepare",)))
    pretend_stages(monkeypatch, tmp_path / "calls")
    finish(seed_run(tmp_path, 5, ("prepare",)))
    assert (tmp_path / "seed5/artifacts/prepare/pairs/file").read_text() == "made"


def tampered(at: Layout, seed: int) -> None:
    write_text(at.reward / "file", (at.reward / "file").read_text() + f" tampered{seed}")
    if not (at.root / "go").exists():
        raise RuntimeError("half way")


def test_tampering_edits_copies_and_is_never_done_twice(
    called: Callable[[], list[str]], tmp_path: Path, made: Path
) -> None:
    shutil.copytree(made / "seed5", tmp_path / "seed5", symlinks=True)
    run = on_seed(tmp_path, tamper=Tamper(tampered, ("artifacts/reward",)))
    with pytest.raises(UserError, match=r"tamper ended with status 1: .*half way"):
        finish(run)
    write_text(tmp_path / "run/go", "")
    finish(run)
    assert (tmp_path / "run/artifacts/reward/file").read_text() == "made tampered5"
    assert (tmp_path / "seed5/artifacts/reward/file").read_text() == "made"
    called()
    finish(run)
    assert called() == []
    write_text(tmp_path / "seed5/artifacts/reward/file", "new")
    finish(run)
    assert (tmp_path / "run/artifacts/reward/file").read_text() == "new tampered5"
    assert called() == ["run: ppo", "run: evaluate"]
    finish(on_seed(tmp_path))  # not tampered with any more
    assert (tmp_path / "run/artifacts/reward/file").read_text() == "new"
    finish(run)
    assert (tmp_path / "run/artifacts/reward/file").read_text() == "new tampered5"


def edited(at: Layout, seed: int) -> None:
    write_text(at.reward / "file", "other bytes")


def test_a_tampered_output_has_a_record_that_knows_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Or the next stage would refuse it: stages check what they read against the record of the stage that made it."""

    def act(stage: str) -> None:
        write_outs(stage)
        record, reward = Path(f"provenance/{stage}.json"), Path("artifacts/reward")
        if stage == "reward":
            write_provenance(record, stage=stage, params={}, inputs=[], outputs=[reward], written=[reward])
        if stage == "ppo":
            check_read([reward], Path(), reader=stage)

    pretend_stages(monkeypatch, tmp_path / "calls", act)
    with pytest.raises(UserError, match=r"artifacts/reward/file is not what reward wrote"):
        finish(on_seed(tmp_path, tamper=Tamper(edited, ("artifacts/reward",))))
    assert finish(on_seed(tmp_path, tamper=Tamper(edited, ("artifacts/reward", "provenance/reward.json")))) == [
        "seed5", "run",
    ]  # fmt: skip
    known, _ = read_records(tmp_path / "seed5")
    theirs, _ = read_records(tmp_path / "run")
    file = Path("artifacts/reward/file")
    assert known[file].sha256 != theirs[file].sha256  # and the run that it starts from keeps its own


def test_nothing_is_written_through_a_link_that_another_layout_left(
    called: Callable[[], list[str]], work: Path
) -> None:
    shutil.rmtree(work / "run/artifacts/prepare")
    (work / "run/artifacts/prepare").symlink_to("../../seed5/artifacts/prepare")
    with pytest.raises(UserError, match=r"run/artifacts/prepare: a link where a folder should be"):
        finish(on_seed(work))
    assert (work / "seed5/artifacts/prepare/pairs/file").is_file()


def test_a_study_that_is_told_to_stop_lets_its_stages_save(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def act(stage: str) -> None:
        def save(*_: object) -> None:
            write_text(tmp_path / "saved", "")
            raise SystemExit(130)

        signal.signal(signal.SIGTERM, save)
        write_text(tmp_path / "started", "")
        time.sleep(600)

    pretend_stages(monkeypatch, tmp_path / "calls", act)
    study = FORK.Process(target=run_command, args=(lambda: finish(seed_run(tmp_path, 5, BEFORE)),))
    study.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    study.terminate()
    study.join()
    assert study.exitcode == 130
    assert (tmp_path / "saved").exists()


def test_a_folder_that_another_process_works_in_is_waited_for(called: Callable[[], list[str]], tmp_path: Path) -> None:
    def hold(folder: Path) -> None:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        write_text(tmp_path / "held", "")
        time.sleep(600)

    run = seed_run(tmp_path, 5, ("prepare",))
    run.folder.mkdir()
    other, study = FORK.Process(target=hold, args=(run.folder,)), FORK.Process(target=finish, args=(run,))
    other.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    study.start()
    study.join(1.0)
    assert study.is_alive()
    assert called() == []
    other.kill()
    study.join()
    assert study.exitcode == 0
    assert called() == ["seed5: prepare"]


@pytest.mark.thorough
@pytest.mark.parametrize("measured", [False, True])
def test_the_real_stage_runs_in_a_fork_and_in_a_new_process(
    measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "warm_up", lambda: None)
    small = {"data.synthetic.prompts": 200, "data.synthetic.corpus_documents": 300, "data.synthetic.ood_prompts": 5}
    run = Run(tmp_path / "run", small, ("prepare",), measured=measured)
    finish(run)
    assert run.metrics()["prepare_prompts"] == 200
    assert (tmp_path / "run/log.txt").read_text().count("== prepare") == 1
    assert read_json(Layout(run.folder).costs / "prepare.json")["cpu_s"] > 0
    assert is_made(run)
    assert not list(run.folder.glob(".checkpoints"))


@pytest.mark.slow
@pytest.mark.thorough
def test_warming_up_imports_what_stages_are_made_of_and_no_library_that_one_stage_alone_needs() -> None:
    text = "import studies.runner, sys; studies.runner.warm_up(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"torch", "rlhf.ppo.step", "rlhf.reward.train", "stages.evaluate"} <= loaded
    assert not {"trl", "dvc"} & loaded
