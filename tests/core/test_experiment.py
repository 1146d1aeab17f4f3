"""An input of the workspace that did not come along to an experiment's folder is named, with what to do.

The folders are made by git as DVC makes them: a repository below the project's .dvc that got what the project tracks.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.core.experiment import INPUTS, check_inputs_came, workspace
from rlhf.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
RESOLVED = {
    "data": {"source": "synthetic", "path": "inputs/preferences"},
    "base": {"source": "pretrain", "path": "inputs/model"},
    "ppo": {"source": "model", "function_path": "inputs/reward"},
    "referee": {"backbone": "artifacts/sft", "function_path": "inputs/referee"},
    "evaluate": {"people": {"path": "inputs/people"}, "tax": {"path": "inputs/benchmarks"}},
}


def git(folder: Path, *args: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True)


class Project:
    """A project whose inputs are empty folders, and an experiment's folder below it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary = folder, folder / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx"
        for name in ("preferences", "model", "reward", "referee", "people", "benchmarks"):
            self.write(f"inputs/{name}/.gitkeep")
        self.write(".gitignore", (ROOT / ".gitignore").read_text() + "/.dvc\n")
        git(folder, "init", "-q")
        self.commit()

    def write(self, name: str, text: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> None:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", "x", "--allow-empty")

    def queue(self) -> None:
        """Make the experiment's folder of what is committed."""
        git(self.folder, "clone", "-q", ".", str(self.temporary))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project((tmp_path / "project").resolve())
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    return project


def check(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Check in the experiment's folder, which is made where the test has not."""
    if not project.temporary.exists():
        project.queue()
    resolved = {section: dict(values) for section, values in RESOLVED.items()}
    for dotted, value in changes.items():
        section, _, name = dotted.partition("__")
        resolved[section][name] = value
    monkeypatch.chdir(project.temporary)
    check_inputs_came(resolved)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("inputs/people/ann.csv", {}),
        ("inputs/people/round 2/ann.csv", {}),
        ("inputs/benchmarks/lambada.jsonl", {}),
        ("inputs/preferences/pairs.jsonl", {"data__source": "files"}),
        ("inputs/model/config.json", {"base__source": "path"}),
        ("inputs/reward/mine.py", {"ppo__source": "function"}),
        ("mine/pairs.jsonl", {"data__source": "files", "data__path": "mine"}),
        ("pairs.jsonl", {"data__source": "files", "data__path": "pairs.jsonl"}),
    ],
)
def test_a_file_that_nobody_tracks_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, object]
) -> None:
    project.write(name)
    with pytest.raises(UserError) as caught:
        check(project, monkeypatch, **changes)
    assert f"{name} is in the workspace and not in this experiment" in str(caught.value)
    assert f"`dvc add {name}`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_file_of_a_folder_that_git_tracks_otherwise_is_named_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("mine/a.jsonl")
    project.commit()
    project.write("mine/b.jsonl")
    with pytest.raises(UserError, match=r"mine/b\.jsonl is in the workspace"):
        check(project, monkeypatch, data__source="files", data__path="mine")


@pytest.mark.parametrize(
    "name",
    ["inputs/preferences/pairs.jsonl", "inputs/model/config.json", "inputs/reward/mine.py",
     "inputs/people/.DS_Store", "inputs/people/.~lock.ann.csv#", "inputs/people/ann.csv~",
     "inputs/people/__pycache__/x.pyc", "elsewhere/x"],
)  # fmt: skip
def test_what_the_run_does_not_read_is_no_matter(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    project.write(name)
    check(project, monkeypatch)


def test_what_git_tracks_came_along_and_what_it_tracks_since_is_for_the_next(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("inputs/people/ann.csv")
    git(project.folder, "add", "-f", "inputs/people/ann.csv")
    project.commit()
    project.queue()
    project.write("inputs/people/bob.csv")
    git(project.folder, "add", "-f", "inputs/people/bob.csv")
    check(project, monkeypatch)


def test_what_dvc_tracks_is_left_to_dvc(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.queue()
    project.write("inputs/people/ann.csv")
    project.write("inputs/people/ann.csv.dvc")
    project.commit()
    check(project, monkeypatch)  # added since


def absolute(project: Project, target: Path) -> str:
    return str(target)


def relative(project: Project, target: Path) -> str:
    return os.path.relpath(target, project.folder / "inputs" / "people")


@pytest.mark.parametrize(("text", "refused"), [(absolute, False), (relative, True)])
def test_a_link_that_git_tracks_must_lead_somewhere_from_there(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: Callable[[Project, Path], str],
    refused: bool,
) -> None:
    (tmp_path / "ann.csv").write_text("")
    (project.folder / "inputs" / "people" / "ann.csv").symlink_to(text(project, tmp_path / "ann.csv"))
    git(project.folder, "add", "-f", "inputs/people/ann.csv")
    project.commit()
    if refused:
        with pytest.raises(UserError, match=r"the link inputs/people/ann\.csv leads nowhere"):
            check(project, monkeypatch)
    else:
        check(project, monkeypatch)


def test_a_path_out_of_the_project_must_be_absolute(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sheets").mkdir()
    with pytest.raises(UserError, match=rf"evaluate\.people\.path: \.\./sheets leads out.*{tmp_path}/sheets"):
        check(project, monkeypatch, evaluate__people={"path": "../sheets"})
    check(project, monkeypatch, evaluate__people={"path": str(tmp_path / "sheets")})


def test_what_a_stage_makes_comes_with_the_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an encoder of the user's own does not, where git ignores it."""
    project.write("artifacts/sft/adapter_model.safetensors")
    project.write("inputs/encoder/mine/config.json")
    check(project, monkeypatch)
    with pytest.raises(UserError, match=r"referee\.backbone: inputs/encoder/mine/config\.json is in the workspace"):
        check(project, monkeypatch, referee__backbone="inputs/encoder/mine")


def test_in_the_project_itself_nothing_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("inputs/people/ann.csv")
    monkeypatch.chdir(project.folder)
    assert workspace() is None
    check_inputs_came(RESOLVED)


def test_every_input_that_dvc_yaml_takes_from_params_yaml_is_looked_at() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"].values()
    paths = {dep[2:-1] for stage in stages for dep in stage.get("do", stage)["deps"] if dep.startswith("${")}
    assert paths == set(INPUTS) | {"ppo.fallback_path"}  # an artifact
