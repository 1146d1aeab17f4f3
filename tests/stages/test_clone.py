"""What git does to files: nothing to their bytes, and no mixture of two runs. On repositories made up for the purpose,
with the project's own .gitattributes."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "params.yaml": b"seed: 0\n",
    "rlhf/ppo/step.py": b"x = 1\ny = 2\n",
    "inputs/people/ann.csv": b'id,better\r\n1,"two\r\nlines"\r\n',
    "inputs/preferences/mixed.jsonl": b"{}\r\n{}\n\r",
    "metrics/ppo.json": b'{\n  "a": 1,\n  "b": 2,\n  "c": 3,\n  "d": 4,\n  "e": 5\n}\n',
    "dvc.lock": b"stages:\n  a: 1\n  b: 1\n  c: 1\n  d: 1\n  e: 1\n",
    "reports/index.html": b"<p>\r\n</p>\n",
}


def git(folder: Path, *args: str, check: bool = True) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *args], cwd=folder, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    shutil.copy(ROOT / ".gitattributes", folder)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return folder


@pytest.mark.parametrize("settings", [("core.autocrlf=true",), ("core.autocrlf=input",), ("core.eol=crlf",)])
def test_a_clone_has_the_bytes_whatever_git_is_set_to(project: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    options = [word for setting in settings for word in ("-c", setting)]
    git(tmp_path, "clone", "-q", *options, str(project), "clone")
    assert {name: (tmp_path / "clone" / name).read_bytes() for name in FILES} == FILES
    for name, data in FILES.items():  # and what is committed there goes back as it is
        (tmp_path / "clone" / name).write_bytes(data + b"more\r\n")
    git(tmp_path / "clone", *options, "commit", "-qam", "y")
    git(project, "pull", "-q", str(tmp_path / "clone"))
    assert {name: (project / name).read_bytes() for name in FILES} == {k: v + b"more\r\n" for k, v in FILES.items()}


def test_results_of_two_runs_are_never_mixed_line_by_line(project: Path) -> None:
    git(project, "checkout", "-qb", "other")
    ours, theirs = {}, {}
    for name, first, last in (("metrics/ppo.json", b'"a": 1', b'"e": 5'), ("dvc.lock", b"a: 1", b"e: 1")):
        theirs[name] = FILES[name].replace(first, first[:-1] + b"8")
        ours[name] = FILES[name].replace(last, last[:-1] + b"9")
    for branch, texts in (("other", theirs), ("main", ours)):
        git(project, "checkout", "-q", branch)
        for name, data in texts.items():
            (project / name).write_bytes(data)
        git(project, "commit", "-qam", branch)
    assert "CONFLICT" in git(project, "merge", "other", check=False)
    assert {name: (project / name).read_bytes() for name in ours} == ours  # whole, without marks
    git(project, "checkout", "HEAD", "--", "dvc.lock", "metrics")  # as docs/troubleshooting.md says
    git(project, "commit", "-qm", "merged")
    assert {name: (project / name).read_bytes() for name in ours} == ours
