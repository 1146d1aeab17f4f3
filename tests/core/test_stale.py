"""A resolved file that params.yaml and its profile no longer make is noticed; what changes no value is not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core import chain
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.params import write_resolved
from rlhf.core.stale import differences, summary
from rlhf.core.start import check_start
from rlhf.params import resolve

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the parameters have just been resolved."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    again(tmp_path)
    return tmp_path


def again(folder: Path) -> None:
    write_resolved(Path("params.resolved.json"), resolve(folder / "params.yaml", folder / "profiles").stages())


def found() -> list[str]:
    return differences(Path("params.resolved.json"), Path("params.yaml"), Path("profiles"))


def replace(name: str, pattern: str, new: str) -> Callable[[], None]:
    def edit() -> None:
        path = Path(name)
        text, count = re.subn(pattern, new, path.read_text(), flags=re.MULTILINE)
        assert count
        path.write_text(text)

    return edit


@pytest.mark.parametrize("profile", PROFILES)
def test_what_resolve_has_just_written_is_not_stale(project: Path, profile: str) -> None:
    replace("params.yaml", r"^profile: \w+", f"profile: {profile}")()
    again(project)
    assert found() == []


def line_ends() -> None:
    Path("params.yaml").write_bytes(Path("params.yaml").read_bytes().replace(b"\n", b"\r\n"))


def order() -> None:
    path = Path("params.resolved.json")
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))


@pytest.mark.parametrize(
    "edit",
    [
        replace("params.yaml", r"\Z", "# a remark\n"),
        replace("profiles/tiny.yaml", r"\A", "# a remark\n"),
        replace("params.yaml", r"^  gamma: 1\.0 ", "  gamma: 1 "),
        line_ends,
        order,
    ],
)
def test_remarks_line_ends_and_other_spellings_of_a_number_change_nothing(
    project: Path, edit: Callable[[], None]
) -> None:
    edit()
    assert found() == []


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (replace("params.yaml", r"^seed: 0", "seed: 7"), ["seed is 0, and would be 7"]),
        (replace("params.yaml", r"^  fail_on: \[\]", "  fail_on: [verbosity]"),
         ["diagnose.fail_on is [], and would be ['verbosity']"]),
        (replace("params.yaml", r"^  gamma: 1\.0", "  gamma: 0.99"), ["ppo.gamma is 1.0, and would be 0.99"]),
        (replace("profiles/tiny.yaml", r"^  device: cpu", "  device: auto"),
         ["runtime.device is 'cpu', and would be 'auto'"]),
        (replace("params.resolved.json", r'^  "seed": 0', '  "seed": 3'), ["seed is 3, and would be 0"]),
    ],
)  # fmt: skip
def test_a_change_of_params_the_profile_or_the_result_is_named(
    project: Path, edit: Callable[[], None], expected: list[str]
) -> None:
    edit()
    assert found() == expected


def test_another_profile_is_a_change_of_many_values_in_one_line(project: Path) -> None:
    replace("params.yaml", r"^profile: tiny", "profile: gpt2")()
    assert "profile is 'tiny', and would be 'gpt2'" in summary(found())
    assert re.search(r"; and \d+ more$", summary(found()))


def test_an_invalid_params_yaml_is_said_in_the_words_of_resolve(project: Path) -> None:
    replace("params.yaml", r"^seed: 0", "seed: -1")()
    with pytest.raises(UserError, match=r"params\.yaml.*seed.*-1"):
        found()


def test_a_stage_by_hand_is_refused_and_told_what_to_do(project: Path) -> None:
    assert check_start(Layout()) is None
    replace("params.yaml", r"^seed: 0", "seed: 7")()
    with pytest.raises(UserError, match=r"params\.resolved\.json is not .*seed is 0.*`dvc repro resolve` first"):
        check_start(Layout())


def in_chain(monkeypatch: pytest.MonkeyPatch, started: float = 1.5) -> None:
    """As though DVC's process 7 ran this stage."""
    Path(".dvc/tmp").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(chain, "command", lambda: [7, started])


def test_an_edit_while_dvc_repro_runs_counts_the_next_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chain(monkeypatch)
    assert check_start(Layout()) is None
    replace("params.yaml", r"^seed: 0", "seed: 7")()
    note = check_start(Layout())
    assert note is not None
    assert "seed is 0" in note
    replace("params.yaml", r"^seed: 7", "seed: [")()  # half written
    assert "not YAML" in (check_start(Layout()) or "")
    in_chain(monkeypatch, started=2.5)  # the next command that happens to have the same number
    with pytest.raises(UserError):
        check_start(Layout())


def test_an_edit_while_an_experiment_runs_in_the_workspace_ends_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chain(monkeypatch)
    monkeypatch.setenv("DVC_EXP_NAME", "hairy-dog")
    assert check_start(Layout()) is None
    replace("params.yaml", r"^seed: 0", "seed: 7")()
    with pytest.raises(UserError, match="edited while this experiment runs"):
        check_start(Layout())


def test_a_stage_alone_under_dvc_is_refused_though_dvc_runs_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chain(monkeypatch)
    replace("params.yaml", r"^seed: 0", "seed: 7")()
    with pytest.raises(UserError, match="without -s"):
        check_start(Layout())


def test_no_command_is_found_where_dvc_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert chain.command() is None
    monkeypatch.setenv("DVC_STAGE", "ppo")
    assert chain.command() is None  # no locks
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    for text in ("", "[]", '{"write": {}}', '{"write": {"x": 3}}', '{"write": {"x": {"pid": -5}}}'):
        (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(text)
        assert chain.command() is None
        assert not chain.begun()
