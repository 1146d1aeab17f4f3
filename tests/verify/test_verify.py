"""A committed run is made again by real git and DVC, and the verdict is the right one of three."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.verify import scratch
from rlhf.verify.run import Asked, Outcome, verify
from rlhf.verify.verdict import Status
from rlhf.verify.write import headline, write
from tests.stages.forker import Forker
from tests.verify.toy import STAGES, Toy, environment, write_table
from tests.verify.toy import write as write_file

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.pipeline


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where scratch folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def again(toy: Toy, place: Path, forker: Forker, **asked: object) -> Outcome:
    """Make the run again; DVC without the seconds of its imports."""
    return verify(Asked(toy.folder, scratch=place, python=forker.python, **asked))  # type: ignore[arg-type] # by name


def beside(toy: Toy, run: Path, **asked: object) -> Outcome:
    """Compare a run that is there."""
    return verify(Asked(toy.folder, run=run, **asked))  # type: ignore[arg-type] # by name


def facts(outcome: Outcome) -> dict[str, tuple[str | None, str | None]]:
    return {one.name: (one.committed, one.here) for one in outcome.facts if one.committed != one.here}


def test_the_same_bytes(toy: Toy, place: Path, forker: Forker, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing: no cache of the commit's settings or the user's, no checkpoints, no outputs that git holds."""
    shared = toy.folder.parent / "shared"
    toy.dvc(forker, "cache", "dir", str(shared))
    write_file(toy.folder / "params.json.bak", "not committed")
    commit = toy.commit()
    monkeypatch.setenv("RLHF_CHECKPOINT_DIR", str(toy.folder))
    outcome = again(toy, place, forker, keep=True)
    assert outcome.verdict.status is Status.SAME
    assert headline(outcome) == (
        f"verify: same bytes: all 22 outputs of 8 stages are as dvc.lock of {commit[:9]} records them"
    )
    assert outcome.facts == []
    (kept,) = place.iterdir()
    assert outcome.kept == kept
    assert not (kept / "run" / "params.json.bak").exists()
    ran = (kept / "repro.log").read_text()
    assert all(f"Running stage '{stage}'" in ran for stage in ("resolve", *STAGES))
    assert (kept / "run/.dvc/cache/files/md5").is_dir()
    assert not shared.exists()
    assert toy.run("git", "status", "--porcelain") == ""


def test_another_processor_within_what_another_seed_gives(
    toy: Toy, place: Path, forker: Forker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_PROCESSOR", "Toy B:0.01")
    outcome = again(toy, place, forker)
    assert (outcome.verdict.status, outcome.verdict.first) == (Status.WITHIN, "ppo")
    assert facts(outcome) == {"processor": ("Toy A", "Toy B")}
    assert [one.path.as_posix() for one in outcome.compared.differences] == [
        "artifacts/ppo", "metrics/ppo.json", "provenance/ppo.json",
        "artifacts/evaluate", "metrics/evaluate.json", "provenance/evaluate.json",
    ]  # fmt: skip
    said = write(outcome, markdown=False)
    assert said.splitlines()[0].startswith("verify: not the same bytes, but every headline number is within")
    assert "By 20 seeds of profile toy, familywise 5%" in said
    assert "95 % interval" in said
    assert "Toy B" in said
    assert str(outcome.kept) in said
    assert outcome.kept is not None
    assert (outcome.kept / "run" / "dvc.lock").is_file()


def test_another_processor_that_gives_another_run(made_toy: Toy, tmp_path: Path, forker: Forker) -> None:
    """As a run that was made elsewhere: its numbers are beyond all seeds'."""
    elsewhere = made_toy.copy(tmp_path / "elsewhere")
    elsewhere.dvc(forker, "repro", "-f", "-s", "ppo", TOY_PROCESSOR="Toy B:40")
    outcome = beside(made_toy, elsewhere.folder)
    assert (outcome.verdict.status, outcome.verdict.first) == (Status.DIFFERENT, "ppo")
    assert outcome.verdict.spread is not None
    assert [one.name for one in outcome.verdict.spread.judged if not one.within] == ["ppo_kl_final"]
    assert facts(outcome)["processor"] == ("Toy A", "Toy B")
    assert beside(made_toy, elsewhere.folder, until="reward").verdict.status is Status.SAME
    assert outcome.kept is None


def test_other_parameters_are_the_cause(toy: Toy, tmp_path: Path, forker: Forker) -> None:
    elsewhere = toy.copy(tmp_path / "elsewhere")
    values = json.loads((toy.folder / "params.json").read_text())
    write_file(elsewhere.folder / "params.json", json.dumps(values | {"seed": 1}))
    elsewhere.dvc(forker, "repro", "-q")
    outcome = beside(toy, elsewhere.folder)
    assert (outcome.verdict.status, outcome.verdict.first) == (Status.WITHIN, "resolve")  # the seed is no parameter
    differ = {one.name for one in outcome.facts if one.known and one.committed != one.here}
    assert differ == {"parameter seed", "data params.json"}
    assert facts(outcome)["parameter seed"] == ("0", "1")
    assert {one.name for one in outcome.facts if one.known} >= {"python", "processor", "code"}

    write_file(elsewhere.folder / "params.resolved.json", json.dumps(values | {"ppo": 2}))
    outcome = beside(toy, elsewhere.folder)
    assert outcome.verdict.status is Status.DIFFERENT
    assert outcome.verdict.spread is not None
    assert "no entry for profile toy" in outcome.verdict.spread.unknown
    assert facts(outcome)["parameter ppo"] == ("1", "2")


HARMS: dict[str, Callable[[Toy], object]] = {
    "no table": lambda toy: (toy.folder / "benchmarks/results/seed_spread.json").unlink(),
    "19 seeds": lambda toy: write_table(toy, 19),
    "outdated": lambda toy: write_file(toy.folder / "rlhf/ppo/code.py", '"""Code."""\nVALUE = 2\n'),
    "a remark": lambda toy: write_file(toy.folder / "rlhf/ppo/code.py", '"""Other words."""\n\nVALUE = 1  # one\n'),
}


@pytest.mark.parametrize(
    ("harm", "unknown"),
    [("no table", "there is no"), ("19 seeds", "has 19 seeds of this run, and 20 are needed"),
     ("outdated", "is outdated: the code of ppo has changed since"), ("a remark", "")],
)  # fmt: skip
def test_which_table_counts(toy: Toy, tmp_path: Path, harm: str, unknown: str) -> None:
    HARMS[harm](toy)
    toy.commit(harm)
    elsewhere = toy.copy(tmp_path / "elsewhere")
    path = elsewhere.folder / "artifacts/evaluate/weights.txt"
    path.unlink()  # DVC may have made it a link to its cache
    write_file(path, "5.0\n")
    outcome = beside(toy, elsewhere.folder)
    assert outcome.verdict.spread is not None
    assert unknown in outcome.verdict.spread.unknown
    assert (outcome.verdict.status is Status.WITHIN) == (not unknown)
    assert ("spread unknown" in headline(outcome)) == bool(unknown)


def test_what_is_missing_is_never_within(toy: Toy, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    toy.run("git", "clone", "-q", str(toy.folder), str(clone))  # metrics are in git, models are not
    outcome = beside(toy, clone)
    assert (outcome.verdict.status, outcome.verdict.first) == (Status.DIFFERENT, "prepare")
    assert re.search(r"artifacts/prepare +is missing", write(outcome, markdown=False))


def test_a_number_that_was_edited_in_git_is_found(toy: Toy, tmp_path: Path) -> None:
    run = toy.copy(tmp_path / "run")
    write_file(toy.folder / "metrics/ppo.json", json.dumps({"ppo_kl_final": 0.1}))
    toy.commit("a better number")
    outcome = beside(toy, run.folder)
    assert outcome.verdict.status is Status.DIFFERENT
    assert "was committed with other bytes than the commit's own dvc.lock" in write(outcome, markdown=True)


def test_other_versions_alone_are_the_same_bytes(toy: Toy, tmp_path: Path) -> None:
    elsewhere = toy.copy(tmp_path / "elsewhere")
    for stage in STAGES:
        path = elsewhere.folder / "provenance" / f"{stage}.json"
        record = json.loads(path.read_text())
        write_file(path, json.dumps(record | {"versions": {"python": "3.12.1", "torch": "2.0"}}))
    outcome = beside(toy, elsewhere.folder)
    assert outcome.verdict.status is Status.SAME
    assert "other versions" in write(outcome, markdown=False)
    write_file(path, json.dumps(record | {"params": {"lr": 2}}))
    assert beside(toy, elsewhere.folder).verdict.first == "evaluate"


def test_the_users_data_are_brought_along_and_others_refused(toy: Toy, place: Path) -> None:
    write_file(toy.folder / "inputs/preferences/pairs.jsonl", "{}\n{}\n")
    with pytest.raises(UserError, match=r"^inputs/preferences: is not what the run was made from"):
        verify(Asked(toy.folder, scratch=place))
    shutil.rmtree(toy.folder / "inputs")
    with pytest.raises(UserError, match=r"^inputs/preferences: is not here, and git does not hold it"):
        verify(Asked(toy.folder, scratch=place))
    assert list(place.iterdir()) == []


def test_a_stage_that_fails_is_one_line_and_its_log_stays(
    toy: Toy, place: Path, forker: Forker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "base")
    with pytest.raises(UserError) as caught:
        again(toy, place, forker, until="sft")
    (kept,) = place.iterdir()
    assert str(caught.value) == (
        f"verify: the run stopped: artifacts/base: the disk is full, as planted; all of it is in {kept / 'repro.log'}"
    )


def test_a_folder_without_room(toy: Toy, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match=r"1 MB are free, and the run needs 100; --scratch names another place"):
        verify(Asked(toy.folder, scratch=place))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"commit": "nowhere"}, "nowhere: no such commit here"),
        ({"commit": "--help"}, "--help: no such commit"),
        ({"until": "pop"}, "--until pop: no such stage; found resolve, prepare, base"),
        ({"settings": ["profil=x"]}, "-S profil=x: KEY=VALUE is needed"),
        ({"settings": ["profile"]}, "-S profile: KEY=VALUE is needed"),
        ({"settings": ["profile=[1"]}, "-S profile=[1:"),
        ({"run": Path("/nowhere")}, "--run /nowhere: no such folder"),
        ({"run": Path("/"), "settings": ["profile=x"]}, "--run compares a run that is there"),
        ({"scratch": Path("/nowhere")}, "--scratch /nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    made_toy: Toy, place: Path, asked: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        verify(Asked(**{"root": made_toy.folder, "scratch": place} | asked))  # type: ignore[arg-type] # by name
    assert str(caught.value).startswith(words)
    assert len(str(caught.value).splitlines()) == 1
    assert list(place.iterdir()) == []


def test_a_commit_without_a_run(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "dvc.lock").unlink()
    toy.commit("no lock")
    with pytest.raises(UserError, match=r"HEAD: the commit holds no dvc\.lock"):
        beside(toy, toy.folder)
    with pytest.raises(UserError, match="not the top of a git repository"):
        verify(Asked(toy.folder / "rlhf"))
    assert beside(toy, toy.folder, commit="HEAD~1").verdict.status is Status.SAME


def test_interrupted_nothing_is_left(made_toy: Toy, place: Path) -> None:
    command = [sys.executable, "-m", "stages.verify", "--scratch", str(place)]
    env = environment() | {"TOY_SLEEP": "base", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=made_toy.folder, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not [log for log in place.glob("*/repro.log") if "asleep" in log.read_text()]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "verify: stopped; nothing is kept"
    assert "Traceback" not in said
    assert list(place.iterdir()) == []
