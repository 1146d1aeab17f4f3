"""A dataset from a hub on 127.0.0.1. The client reads the hub's address when it is imported, so it runs by itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer, closed_port_url, hub_environment
from tests.prepare.helpers import hh_row, write_lines

COMMIT, OTHER = "a" * 40, "b" * 40
ROWS = [hh_row(f"question {i}") for i in range(5)]

CLIENT = """
import json, sys, time
time.sleep = lambda seconds: None  # how long the library waits between two tries proves nothing
from rlhf.core.errors import UserError
from rlhf.prepare.hub import hub_rows
from rlhf.prepare.params import HubParams
for asked in sys.argv[1:]:
    hub = HubParams(**json.loads(asked), data_dir="helpful-base")
    try:
        lines = [f"{row.origin} {row.values['chosen'].split()[2]}" for row in hub_rows(hub)]
    except UserError as error:
        lines = [f"refused: {error}"]
    print(json.dumps(lines))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset")
    write_lines(root / "helpful-base" / "train.jsonl.gz", ROWS)
    write_lines(root / "helpful-base" / "test.jsonl.gz", ROWS[:2])
    (root / "README.md").write_text("# Pairs\n")
    return root


def ask(environment: dict[str, str], *changes: dict[str, str]) -> list[list[str]]:
    """The rows, or the one line of an orderly refusal, of each of several datasets in a row."""
    usual = {"repo": "someone/pairs", "revision": COMMIT, "split": "train"}
    command = [sys.executable, "-c", CLIENT, *(json.dumps(usual | change) for change in changes or ({},))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def refused(lines: list[str]) -> str:
    (line,) = lines
    assert line.startswith("refused: ")
    assert "\n" not in line
    return line


@pytest.mark.slow
def test_a_pinned_dataset_is_read_and_then_needs_no_network(folder: Path, tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add("dataset", "someone/pairs", revision=COMMIT, folder=folder)
        train, both = ask(hub.environment(tmp_path), {}, {"split": "train+test"})
        expected = [f"someone/pairs@{COMMIT[:12]}/train:{i}" for i in range(1, 6)]
        assert [line.split()[0] for line in train] == expected
        assert not [line for line in hub.requests if OTHER in line or "main" in line]
        assert len(both) == 7
    offline = hub_environment(closed_port_url(), tmp_path) | {"HF_HUB_OFFLINE": "1"}
    assert ask(offline) == [train]


@pytest.mark.slow
def test_each_way_to_fail_is_one_line(folder: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "lost" / "helpful-base" / "train-1.jsonl.gz", ROWS)
    with HubServer() as hub:
        hub.add("dataset", "someone/pairs", revision=COMMIT, folder=folder)
        hub.add("dataset", "someone/lost", revision=COMMIT, folder=tmp_path / "lost")
        hub.missing.add("helpful-base/train-1.jsonl.gz")
        here = hub.environment(tmp_path / "home")
        changes = ({"revision": OTHER}, {"repo": "someone/else"}, {"split": "trian"}, {"repo": "someone/lost"})
        commit, repo, split, lost = ask(here, *changes)
        assert "has no such commit" in refused(commit)
        assert "no such dataset, or a private one" in refused(repo)
        assert "data.hub.split" in refused(split)
        assert "train-1.jsonl.gz" in refused(lost)


@pytest.mark.slow
def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    nobody = hub_environment(closed_port_url(), tmp_path)
    for environment in (nobody, nobody | {"HF_HUB_OFFLINE": "1"}):
        line = refused(ask(environment)[0])
        assert "download the files elsewhere" in line
        assert "data.source=files, data.path=<folder>" in line


FORMS = """
import json, sys
from rlhf.prepare.build import make_writer
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.sources import Source
from rlhf.prepare.written import write_all
from tests.prepare.helpers import VALUES, data_params
for repo in sys.argv[1:]:
    hub = {"repo": repo, "revision": "a" * 40, "data_dir": None, "split": "train"}
    data = data_params(source="hub", format="auto", hub=hub)
    source = Source(data, 0)
    written = write_all(source, make_writer(data, None, None), Ledger())
    pairs = [[one.prompt, one.chosen, one.rejected, one.origin] for one in written]
    print(json.dumps([pairs, source.notes.lines()[0]]))
"""


@pytest.mark.thorough
@pytest.mark.slow
def test_the_forms_of_rows_are_read_from_a_hub_as_from_files(tmp_path: Path) -> None:
    """Lists of turns come through `datasets` out of JSON lines, and a winner out of CSV."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}]
    chat = {"chosen": turns, "rejected": [turns[0], turns[1] | {"content": "no"}]}
    write_lines(tmp_path / "chat" / "train.jsonl", [chat])
    write_lines(tmp_path / "won" / "train.csv", ["question,response_a,response_b,winner", "Hi,no,yes,B"])
    with HubServer() as hub:
        for name in ("chat", "won"):
            hub.add("dataset", f"someone/{name}", revision=COMMIT, folder=tmp_path / name)
        command = [sys.executable, "-c", FORMS, "someone/chat", "someone/won"]
        environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    for (pairs, note), (name, form) in zip(found, (("chat", "messages"), ("won", "winner")), strict=True):
        origin = f"someone/{name}@{COMMIT[:12]}/train:1"
        assert pairs == [["\n\nHuman: Hi\n\nAssistant:", " yes", " no", origin]]
        assert f"took the rows for {form}," in note
