"""Snapshots from a local server that speaks the hub's protocol; each client runs in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.models.text.hub import fetch
from tests.hub_server import HubServer, closed_port_url, hub_environment

ROOT = Path(__file__).resolve().parents[2]
COMMIT, OTHER = "a1" * 20, "b2" * 20
NAME = "someone/tiny"
CLIENT = """
import sys, time
time.sleep = lambda seconds: None  # how long the library waits between two tries proves nothing
from rlhf.core.errors import UserError
from rlhf.models.text.hub import fetch
try:
    print(fetch(sys.argv[1], sys.argv[2]))
except UserError as error:
    print(error)
    sys.exit(1)
"""


def run(environment: dict[str, str], name: str = NAME, revision: str = COMMIT) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, "-c", CLIENT, name, revision], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    return process.returncode, process.stdout.strip() or process.stderr


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    repository = tmp_path / "repository"
    (repository / "onnx").mkdir(parents=True)
    for name in (
        "config.json", "model.safetensors", "tokenizer.json", "merges.txt", "LICENSE", "README.md", "pytorch_model.bin",
        "modeling_custom.py", "training_args.bin", "onnx/config.json", "onnx/model.safetensors",
    ):  # fmt: skip
        (repository / name).write_text(f"this is {name}")
    with HubServer() as server:
        server.add("model", NAME, revision=COMMIT, folder=repository)
        yield server


def test_only_safe_top_level_files_come(hub: HubServer, tmp_path: Path) -> None:
    status, folder = run(hub.environment(tmp_path / "home"))
    assert status == 0, folder
    found = {item.relative_to(folder).as_posix() for item in Path(folder).rglob("*") if item.is_file()}
    assert found == {"config.json", "model.safetensors", "tokenizer.json", "merges.txt", "LICENSE"}
    assert (Path(folder) / "model.safetensors").read_text() == "this is model.safetensors"
    asked = "\n".join(hub.requests)
    assert ".bin" not in asked
    assert ".py" not in asked


def test_what_is_in_the_cache_needs_no_network(hub: HubServer, tmp_path: Path) -> None:
    first = run(hub.environment(tmp_path / "home"))
    again = run(hub_environment(closed_port_url(), tmp_path / "home"))
    assert first == again
    offline = run(hub_environment(closed_port_url(), tmp_path / "home") | {"HF_HUB_OFFLINE": "1"})
    assert offline == first


def test_an_unknown_revision(hub: HubServer, tmp_path: Path) -> None:
    status, message = run(hub.environment(tmp_path / "home"), revision=OTHER)
    assert (status, message) == (
        1,
        f"{NAME}@{OTHER}: the repository has no such commit; take one from its list of commits for base.revision",
    )


def test_an_unknown_repository(hub: HubServer, tmp_path: Path) -> None:
    status, message = run(hub.environment(tmp_path / "home"), name="someone/else")
    assert status == 1
    assert message.endswith("no such repository, or a private one; check base.repo, or set HF_TOKEN")
    assert len(hub.requests) <= 2  # it does not try again in vain


def test_a_name_that_is_none(hub: HubServer, tmp_path: Path) -> None:
    status, message = run(hub.environment(tmp_path / "home"), name="a/b/c")
    assert (status, message) == (1, f"a/b/c@{COMMIT}: base.repo must be a name like 'openai-community/gpt2'")


def test_a_file_that_the_hub_has_lost(hub: HubServer, tmp_path: Path) -> None:
    hub.missing.add("model.safetensors")
    status, message = run(hub.environment(tmp_path / "home"))
    assert status == 1
    assert message == f"{NAME}@{COMMIT}: model.safetensors is listed in the repository, but the hub does not have it"


@pytest.mark.slow
def test_no_network(tmp_path: Path) -> None:
    status, message = run(hub_environment(closed_port_url(), tmp_path / "home"))
    assert status == 1
    assert "\n" not in message
    assert message.endswith(
        "the hub is not reached; without a network, put the model's files in a folder and set base.source=path, "
        "base.path=<folder>"
    )


def test_offline_mode(hub: HubServer, tmp_path: Path) -> None:
    status, message = run(hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "1"})
    assert status == 1
    assert "not in the local cache, and the hub is not reached" in message
    assert hub.requests == []


def test_a_busy_hub_is_asked_again(hub: HubServer, tmp_path: Path) -> None:
    hub.busy = 2
    status, message = run(hub.environment(tmp_path / "home"))
    assert status == 0, message


def test_a_gated_repository_wants_a_token_from_the_environment(hub: HubServer, tmp_path: Path) -> None:
    hub.gated[NAME] = "hf_good"
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("hf_good")  # left by some login: not used
    environment = hub.environment(home)
    del environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"]  # which would keep the library from looking for it
    status, message = run(environment)
    assert status == 1
    assert message.endswith("gated; accept its terms on the hub, then set HF_TOKEN to a token of that account")
    status, message = run(environment | {"HF_TOKEN": "hf_good"})
    assert status == 0, message


def test_a_repository_without_safetensors(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    hub.add("model", "someone/old", revision=OTHER, folder=folder)
    status, message = run(hub.environment(tmp_path / "home"), name="someone/old", revision=OTHER)
    assert status == 1
    assert message.startswith(f"someone/old@{OTHER}: none of *.safetensors, *.json")


@pytest.mark.parametrize("revision", ["main", "refs/pr/1", COMMIT[:12]])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(UserError, match=r"a commit of 40 hex digits is needed, because a branch or tag can move"):
        fetch(NAME, revision)
