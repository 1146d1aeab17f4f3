"""A dataset from a hub on 127.0.0.1. The client reads the hub's address when it is imported, so it runs by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer, closed_port_url, hub_environment
from tests.prepare.helpers import hh_row, write_lines

COMMIT, OTHER = "a" * 40, "b" * 40
ROWS = [hh_row(f"question {i}") for i in range(5)]

CLIENT = """
import sys, time
time.sleep = lambda seconds: None  # how long the library waits between two tries proves nothing
from rlhf.core.errors import UserError
from rlhf.prepare.hub import hub_rows
from rlhf.prepare.params import HubParams
repo, revision, data_dir, split = sys.argv[1:]
try:
    for row in hub_rows(HubParams(repo=repo, revision=revision, data_dir=data_dir, split=split)):
        print(row.origin, row.values["chosen"].split()[2])
except UserError as error:
    print(error, file=sys.stdout)
    sys.exit(1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    write_lines(root / "helpful-base" / "train.jsonl.gz", ROWS)
    write_lines(root / "helpful-base" / "test.jsonl.gz", ROWS[:2])
    (root / "README.md").write_text("# Pairs\n")
    return root


def ask(
    environment: dict[str, str], *, repo: str = "someone/pairs", revision: str = COMMIT, split: str = "train"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CLIENT, repo, revision, "helpful-base", split]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    """The one line of an orderly refusal."""
    assert answer.returncode == 1, answer.stderr[-2000:]
    assert "Traceback" not in answer.stderr
    (line,) = answer.stdout.strip().splitlines()
    return line


@pytest.mark.slow
def test_a_pinned_dataset_is_read_and_then_needs_no_network(folder: Path, tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add("dataset", "someone/pairs", revision=COMMIT, folder=folder)
        answer = ask(hub.environment(tmp_path))
        assert answer.returncode == 0, answer.stderr[-2000:]
        expected = [f"someone/pairs@{COMMIT[:12]}/train:{i}" for i in range(1, 6)]
        assert [line.split()[0] for line in answer.stdout.splitlines()] == expected
        assert not [line for line in hub.requests if OTHER in line or "main" in line]
        both = ask(hub.environment(tmp_path), split="train+test")
        assert len(both.stdout.splitlines()) == 7
    offline = hub_environment(closed_port_url(), tmp_path) | {"HF_HUB_OFFLINE": "1"}
    assert ask(offline).stdout == answer.stdout


@pytest.mark.slow
def test_each_way_to_fail_is_one_line(folder: Path, tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add("dataset", "someone/pairs", revision=COMMIT, folder=folder)
        here = hub.environment(tmp_path)
        assert "has no such commit" in refused(ask(here, revision=OTHER))
        assert "no such dataset, or a private one" in refused(ask(here, repo="someone/else"))
        assert "data.hub.split" in refused(ask(here, split="trian"))
        hub.missing.add("helpful-base/train.jsonl.gz")
        assert "train.jsonl.gz" in refused(ask(hub.environment(tmp_path / "fresh")))


@pytest.mark.slow
def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    nobody = hub_environment(closed_port_url(), tmp_path)
    for environment in (nobody, nobody | {"HF_HUB_OFFLINE": "1"}):
        line = refused(ask(environment))
        assert "download the files elsewhere" in line
        assert "data.source=files, data.path=<folder>" in line
