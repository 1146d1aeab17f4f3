"""Git is asked about the folder at hand, whatever the environment says, and whatever files are called."""

import os
import subprocess
from pathlib import Path

import pytest

from rlhf.core import experiment
from rlhf.runs.git import Commit

ODD = b"caf\xe9.txt"  # a name that is not UTF-8


def git(folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *words], cwd=folder, env=clean | names, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


def repository(folder: Path, text: str) -> Path:
    """A repository with one commit on the branch main."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "a.txt").write_text(text)
    Path(os.fsdecode(os.fsencode(folder / "data") + b"/" + ODD)).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", text)
    return folder


def test_a_hooks_environment_leads_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = repository(tmp_path / "ours", "ours"), repository(tmp_path / "other", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    commit = Commit.find(ours, "main")
    assert commit.hash == git(ours, "rev-parse", "main") != git(other, "rev-parse", "main")
    assert commit.read("data/a.txt") == b"ours"
    assert sorted(map(os.fsencode, commit.files("data"))) == [b"data/a.txt", b"data/" + ODD]
    commit.clone_to(tmp_path / "clone")
    assert (tmp_path / "clone" / "data" / "a.txt").read_text() == "ours"
    assert git(other, "symbolic-ref", "HEAD") == "refs/heads/main"  # its branch is still checked out
    assert (other / "data" / "a.txt").read_text() == "other"
    assert Path("data/a.txt") in experiment._tracked(ours, Path("data"))
