"""The pipeline as its users run it: real dvc and git commands on a small copy of the project."""

import json
import re
import shutil
from pathlib import Path

import pytest

from rlhf.core.curves import read_rows
from rlhf.verify.at_rest import check_at_rest
from rlhf.verify.run import Asked, verify
from rlhf.verify.verdict import Status
from tests.stages.forker import Forker
from tests.stages.project import MICRO, Project
from tests.stages.test_plots import drawn, outs
from tests.stages.test_readme import unexplained

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

STAGES = ["prepare", "base", "conformance", "sft", "reward", "ppo", "evaluate"]


@pytest.fixture(scope="module")
def project(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Each stage in a fork, which saves the seconds of its imports; in a fresh clone by a Python of its own."""
    project = Project.copy(tmp_path_factory.mktemp("first") / "project", MICRO, forker)
    project.dvc("repro")
    project.commit("first run")
    return project


def ran(output: str) -> list[str]:
    """The stages that ran, but for those that are off: they leave a note at once, in whatever order DVC likes."""
    return [name for name in re.findall(r"Running stage '(\w+)'", output) if name != "acquire"]


def test_metrics_are_sorted_unique_and_free_of_the_moment(project: Project) -> None:
    seen: dict[str, str] = {}
    for stage in STAGES:
        text = project.read(f"metrics/{stage}.json").decode()
        metrics = json.loads(text)
        assert text == json.dumps(metrics, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        for name in metrics:
            assert name not in seen, f"{name} is in metrics/{stage}.json and metrics/{seen[name]}.json"
            assert not re.search(r"time|date|seconds|host|path", name)
            seen[name] = stage
    assert len(seen) > 100
    assert unexplained(list(seen)) == []


def test_curves_have_the_columns_that_are_drawn(project: Project) -> None:
    heads = {file: set(read_rows(project.folder / file)[0]) for file in outs()}
    assert [(title, column) for title, file, column in drawn() if column not in heads[file]] == []


def test_nothing_written_names_a_place_on_this_machine(project: Project) -> None:
    for folder in ("metrics", "plots", "provenance", "artifacts"):
        for path in (project.folder / folder).rglob("*"):
            if path.is_file() and path.suffix != ".safetensors":
                assert str(project.folder).encode() not in path.read_bytes(), path
    provenance = json.loads(project.read("provenance/ppo.json"))
    assert set(provenance["inputs"]) >= {"artifacts/base", "artifacts/sft", "artifacts/reward"}
    assert provenance["params"]["ppo"]["iterations"] == 3
    assert provenance["versions"]["torch"]


def test_a_second_repro_runs_nothing(project: Project) -> None:
    output = project.dvc("repro").stdout
    assert ran(output) == []
    assert "up to date" in output
    assert project.git("status", "--porcelain") == ""


@pytest.mark.thorough
def test_the_committed_run_is_verified(project: Project, forker: Forker, tmp_path: Path) -> None:
    asked = Asked(project.folder, until="sft", scratch=tmp_path, python=forker.python)
    outcome = verify(asked)
    assert outcome.verdict.status is Status.SAME
    assert list(outcome.committed.lock) == ["resolve", "prepare", "base", "conformance", "sft"]
    assert outcome.facts == []
    assert list(tmp_path.iterdir()) == []
    assert beside(project, project.folder) is Status.SAME  # all of it, where it lies


def test_what_lies_here_is_whole_or_named_and_no_stage_reads_what_is_not(
    project: Project, forker: Forker, tmp_path: Path
) -> None:
    found = check_at_rest(project.folder)
    assert found.problems == []
    assert found.objects > 20
    copy = Project(shutil.copytree(project.folder, tmp_path / "copy", symlinks=True), forker)
    for name, reader in (("sft/adapter_model.safetensors", "ppo"), ("prepare/pairs/train.jsonl", "sft"),
                         ("reward/reward.json", "evaluate"), ("diagnose.md", "report")):  # fmt: skip
        file = copy.folder / "artifacts" / name
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert [one.where for one in check_at_rest(copy.folder).problems] == [f"artifacts/{name}"]
        refused = forker.run(reader, copy.folder)
        assert refused.code == 1, reader
        (line,) = refused.err.splitlines()
        assert line.startswith(f"error: artifacts/{name} is not what {name.split('/')[0].split('.')[0]} wrote")
        file.write_bytes(data)
    assert forker.run("diagnose", copy.folder).err == ""
    assert check_at_rest(copy.folder).problems == []  # made again by hand, to the same bytes


def beside(project: Project, run: Path) -> Status:
    return verify(Asked(project.folder, run=run)).verdict.status


@pytest.mark.thorough
def test_a_fresh_clone_makes_the_same_bytes(project: Project, tmp_path: Path) -> None:
    clone = project.clone(tmp_path / "clone")
    clone.forker = None  # as a user's: every command is started anew
    clone.run("git", "rm", "-q", "--cached", "dvc.lock")
    (clone.folder / "dvc.lock").unlink()
    output = clone.dvc("repro").stdout
    assert ran(output) == ["resolve", *STAGES, "diagnose", "compare", "report"]
    assert clone.read("dvc.lock") == project.read("dvc.lock")  # the hashes of every model and every data file
    for stage in STAGES:
        assert clone.read(f"metrics/{stage}.json") == project.read(f"metrics/{stage}.json")


def test_an_experiment_runs_only_what_it_affects(project: Project) -> None:
    before = json.loads(project.read("metrics/ppo.json"))
    output = project.dvc("exp", "run", "--temp", "-S", "ppo.kl_coef=0.7", "-n", "more-kl").stdout
    assert ran(output) == ["resolve", "ppo", "evaluate", "diagnose", "compare", "report"]
    shown = json.loads(project.dvc("exp", "show", "--json").stdout)
    assert "more-kl" in json.dumps(shown)
    changed = project.dvc("params", "diff", "HEAD", "more-kl", "--md").stdout
    assert "ppo.kl_coef" in changed
    assert "0.7" in changed
    difference = json.loads(project.dvc("metrics", "diff", "HEAD", "more-kl", "--json").stdout)
    assert "metrics/ppo.json" in difference
    assert "metrics/sft.json" not in difference
    assert json.loads(project.read("metrics/ppo.json")) == before


@pytest.mark.parametrize(
    ("file", "stale"), [("evaluate/run.py", {"evaluate"}), ("measure/winrate.py", {"evaluate", "compare"})]
)
def test_editing_a_file_re_runs_only_what_imports_it(project: Project, file: str, stale: set[str]) -> None:
    path = project.folder / "rlhf" / file
    text = path.read_text()
    path.write_text(text + "# a comment\n")
    try:
        status = json.loads(project.dvc("status", "--json").stdout)
    finally:
        path.write_text(text)
    assert set(status) == stale


def test_clone_pull_repro_runs_nothing_and_a_corrupted_remote_is_caught(project: Project, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    project.dvc("remote", "add", "-d", "--local", "storage", str(remote))
    project.dvc("push")
    project.run("git", "update-index", "-q", "--refresh")

    clone = project.clone(tmp_path / "clone")
    clone.dvc("remote", "add", "-d", "--local", "storage", str(remote))
    clone.dvc("remote", "modify", "--local", "storage", "verify", "true")
    clone.dvc("pull")
    output = clone.dvc("repro").stdout
    assert ran(output) == []
    assert "up to date" in output

    victim = max((p for p in remote.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    broken = project.clone(tmp_path / "broken")
    broken.dvc("remote", "add", "-d", "--local", "storage", str(remote))
    broken.dvc("remote", "modify", "--local", "storage", "verify", "true")
    assert broken.dvc("pull", check=False).returncode != 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("ppo.kl_coef=abc", ["params.yaml", "ppo.kl_coef", "'abc'"]),
        # What is bad, and in which words, is test_resolve's and test_bad_input's: here that DVC stops for it.
        pytest.param("ppo.minibatch=3", ["params.yaml", "minibatch", "3"], marks=pytest.mark.thorough),
        pytest.param("runtime.device=tpu", ["params.yaml", "runtime.device", "'tpu'"], marks=pytest.mark.thorough),
    ],
)
def test_a_bad_setting_stops_before_any_work(project: Project, setting: str, words: list[str]) -> None:
    done = project.dvc("exp", "run", "--temp", "-S", setting, check=False)
    assert done.returncode != 0
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "error: " in line and "params.yaml" in line]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert ran(done.stdout) == ["resolve"]


def test_a_misspelt_key_in_params_yaml(project: Project) -> None:
    path = project.folder / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("kl_coef:", "kl_coeff:"))
    try:
        done = project.dvc("repro", check=False)
    finally:
        path.write_text(text)
    assert done.returncode != 0
    assert "ppo.kl_coeff: unknown key" in done.stderr + done.stdout
    assert ran(done.stdout) == ["resolve"]
