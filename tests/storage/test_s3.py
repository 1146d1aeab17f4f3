"""Real DVC against an object store on 127.0.0.1: what comes back, what is refused, and what no commit may hold."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.verify.at_rest import check_at_rest
from tests.storage.project import CREDENTIALS, KEY, PASSWORD, STAGES, Project, make_project
from tests.storage.s3 import BUCKET, Store

ABSENT = [name for name in ("dvc_s3", "moto", "flask") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.thorough,
    pytest.mark.skipif(bool(ABSENT), reason=f"{', '.join(ABSENT)} not installed: make test-storage"),
]
SFT = "artifacts/sft/weights.txt"
SOUND = {f"artifacts/{stage}/{name}.txt" for stage in ("prepare", "ppo") for name in ("weights", "words")}
ONE_TRY = {"AWS_MAX_ATTEMPTS": "1"}  # the client's own patience is a minute


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.start(tmp_path_factory.mktemp("store"))
    yield store
    store.stop()


@pytest.fixture(scope="module")
def pushed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose run lies in the store, as docs/storage.md says; not to be changed."""
    project = make_project(tmp_path_factory.mktemp("s3"))
    project.dvc("remote", "add", "-d", "storage", f"s3://{BUCKET}/runs")
    project.dvc("remote", "modify", "storage", "endpointurl", store.url)
    project.dvc("remote", "modify", "storage", "verify", "true")
    project.commit("a remote")
    project.dvc("push", **CREDENTIALS)
    return project


@pytest.fixture
def clone(pushed: Project, store: Store, tmp_path: Path) -> Iterator[Project]:
    """A fresh clone; what the test does to the store is undone."""
    before = {key: store.ask("GET", key) for key in store.objects()}
    yield pushed.clone(tmp_path / "clone")
    for key in set(store.objects()) - set(before):
        store.ask("DELETE", key)
    for key, content in before.items():
        store.ask("PUT", key, content)


def listing_of(store: Store, key: str) -> str:
    """The listing of the folder that this object is a file of."""
    md5 = "".join(key.split("/")[-2:]).encode()
    (found,) = [one for one in store.objects() if one.endswith(".dir") and md5 in store.ask("GET", one)]
    return found


def test_a_clone_pulls_and_nothing_runs(pushed: Project, clone: Project) -> None:
    clone.dvc("pull", **CREDENTIALS)
    assert clone.artifacts() == pushed.artifacts()
    assert len(clone.artifacts()) == 2 * len(STAGES)
    assert "Data and pipelines are up to date" in clone.dvc("repro")
    assert clone.stages_run() == []
    assert check_at_rest(clone.folder).problems == []


@pytest.mark.parametrize("damage", ["other bytes", "emptied"])
def test_a_damaged_object_is_refused_and_the_sound_ones_come(
    pushed: Project, clone: Project, store: Store, damage: str
) -> None:
    content = pushed.artifacts()[SFT]
    store.damage(content) if damage == "other bytes" else store.ask("PUT", store.key_of(content), b"")
    assert clone.ask_dvc("pull", **CREDENTIALS).refused("failed to pull")
    assert set(clone.artifacts()) == SOUND
    clone.dvc("repro")  # what is missing is made again, and only that
    assert clone.stages_run() == ["sft"]
    assert clone.artifacts() == pushed.artifacts()


def test_without_verify_a_damaged_object_is_trusted(pushed: Project, clone: Project, store: Store) -> None:
    """Why the page says `verify`: nothing is said, by `pull`, `status` or `repro`. Only `verify --at-rest` finds it."""
    clone.dvc("remote", "modify", "storage", "verify", "false")
    store.damage(pushed.artifacts()[SFT])
    clone.dvc("pull", **CREDENTIALS)
    assert "up to date" in clone.dvc("status")
    assert clone.artifacts()[SFT] != pushed.artifacts()[SFT]
    assert SFT in {one.where for one in check_at_rest(clone.folder).problems}


def test_a_damaged_listing_passes_verify_and_not_at_rest(pushed: Project, clone: Project, store: Store) -> None:
    """DVC checks files and not listings of folders: a name changed there comes back as another file's name."""
    listing = listing_of(store, store.key_of(pushed.artifacts()[SFT]))
    store.ask("PUT", listing, store.ask("GET", listing).replace(b"words.txt", b"other.txt"))
    clone.dvc("pull", **CREDENTIALS)
    assert "artifacts/sft/other.txt" in clone.artifacts()
    assert any(one.where.startswith("artifacts/sft") for one in check_at_rest(clone.folder).problems)


def test_a_missing_object_ends_the_pull(pushed: Project, clone: Project, store: Store) -> None:
    key = store.key_of(pushed.artifacts()[SFT])
    store.ask("DELETE", key)
    assert clone.ask_dvc("pull", **CREDENTIALS).refused("".join(key.split("/")[-2:]), "does not exist")
    assert SFT not in clone.artifacts()


@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_a_push_mends_nothing_and_a_new_address_does(pushed: Project, clone: Project, store: Store, fault: str) -> None:
    """DVC asks the store for names, never for bytes, and remembers which names were there."""
    sound = pushed.clone(clone.folder.parent / "sound")
    sound.dvc("cache", "dir", "--local", str(pushed.folder / ".dvc" / "cache"))
    content = pushed.artifacts()[SFT]
    key = store.damage(content) if fault == "damaged" else store.key_of(content)
    if fault == "missing":
        store.ask("DELETE", key)
    pushed.dvc("push", **CREDENTIALS)
    assert key not in store.objects() or store.ask("GET", key) != content
    for project in (sound, clone):
        project.dvc("remote", "modify", "storage", "url", f"s3://{BUCKET}/{fault}-again")
    sound.dvc("push", **CREDENTIALS)
    clone.dvc("pull", **CREDENTIALS)
    assert clone.artifacts() == pushed.artifacts()


@pytest.mark.parametrize("command", ["pull", "push"])
def test_without_credentials_there_is_one_line(pushed: Project, clone: Project, command: str) -> None:
    project = clone if command == "pull" else pushed
    before = project.artifacts()
    assert project.ask_dvc(command).refused("Unable to locate credentials")
    assert project.artifacts() == before


@pytest.mark.parametrize("command", ["pull", "push"])
def test_a_server_that_is_down_is_one_line(pushed: Project, clone: Project, command: str) -> None:
    project = (pushed if command == "push" else clone).clone(clone.folder.parent / "down")
    if command == "push":
        project.dvc("cache", "dir", "--local", str(pushed.folder / ".dvc" / "cache"))
    project.dvc("remote", "modify", "storage", "endpointurl", "http://127.0.0.1:9")  # where nothing listens
    assert project.ask_dvc(command, **CREDENTIALS, **ONE_TRY).refused("Could not connect", "http://127.0.0.1:9")


def test_no_commit_holds_a_secret(clone: Project, store: Store) -> None:
    """Credentials in the environment while stages run, in config.local, in a push of another run's results."""
    clone.dvc("remote", "modify", "--local", "storage", "access_key_id", KEY)
    clone.dvc("remote", "modify", "--local", "storage", "secret_access_key", PASSWORD)
    clone.dvc("pull")
    (clone.folder / "params.json").write_text('{"prepare": 1, "sft": 2, "ppo": 1}')
    clone.dvc("repro", **CREDENTIALS)
    assert clone.stages_run() == ["sft", "ppo"]
    clone.dvc("push")
    clone.commit("everything that git would take")
    held = clone.every_object() + b"".join(store.ask("GET", key) for key in store.objects())
    assert b"endpointurl" in held  # so the search sees what is there
    assert KEY.encode() not in held
    assert PASSWORD.encode() not in held
    assert (clone.folder / ".dvc" / "config.local").is_file()
    assert clone.run("git", "check-ignore", ".dvc/config.local").strip() == ".dvc/config.local"
