"""`resolve --explain`: what a parameter is, where its value comes from, and what a change re-runs."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml
from rlhf.explain import Files, allowed, differences, explain, read_comments, reruns
from stages.resolve import main
from tests.stages.project import Project
from tests.stages.test_resolve import ROOT, leaves


@pytest.fixture
def files(tmp_path: Path) -> Files:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return Files(tmp_path / "params.yaml", tmp_path / "profiles", tmp_path / "dvc.yaml")


def of(name: str, files: Files) -> dict[str, str]:
    first, *rest = explain(name, files)
    return {"value": first.partition(" = ")[2], **dict(line.split(": ", 1) for line in rest)}


def test_a_value_of_the_profile_and_one_of_the_file(files: Files) -> None:
    assert of("ppo.lr", files)["from"].endswith("profiles/tiny.yaml")
    Project(files.params.parent).set({"ppo.lr": 1e-5})
    told = of("ppo.lr", files)
    assert (float(told["value"]), Path(told["from"]).name) == (1e-5, "params.yaml")
    assert told["sensible"] == "1.0e-6 to 2.0e-3"
    assert told["allowed"] == "number >= 0 and <= 1"


@pytest.mark.parametrize(
    ("name", "first", "after", "never"),
    [
        ("ppo.lr", {"ppo"}, {"evaluate", "compare"}, {"base", "sft", "reward"}),
        ("ppo.response_tokens", {"prepare", "ppo"}, {"sft"}, set()),
        ("offline.dpo.beta", {"offline"}, {"compare"}, {"ppo", "evaluate"}),
        ("evaluate.fail_on", {"diagnose", "report"}, set(), {"evaluate", "compare"}),
        ("report.samples", {"report"}, set(), {"diagnose", "evaluate"}),
    ],
)
def test_what_a_change_reruns(name: str, first: set[str], after: set[str], never: set[str], files: Files) -> None:
    one, _, other = reruns(name, files).partition("; then, where their inputs changed: ")
    found, then = set(one.split(", ")), set(other.split(", "))
    assert first <= found
    assert after <= then
    assert not never & (found | then)


def test_curves_for_dashboards_rerun_nothing(files: Files) -> None:
    assert reruns("live.to", files) == "nothing"


def test_every_parameter_can_be_explained(files: Files) -> None:
    for name in leaves(read_yaml(files.params)):
        assert "any" not in allowed(name).split(), name
    for name in (
        "profile",
        "seed",
        "runtime.device",
        "data.columns.prompt",
        "live.to",
        "diagnose.undertrained.kl.failed",
    ):
        assert len(explain(name, files)) >= 4, name


def test_choices_bounds_and_lists() -> None:
    assert allowed("reward.pooling") == "mean | last | attention"
    assert allowed("runtime.threads") == "whole number >= 1 and <= 256"
    assert allowed("offline.best_of_n.run") == "true | false"
    assert allowed("report.labels").startswith("list of: whole number")


def test_a_section_lists_its_keys(files: Files) -> None:
    keys = {line.split()[0] for line in explain("base.pretrain", files)[1:-1]}
    assert keys == set(read_yaml(files.params)["base"]["pretrain"])


def test_comments_are_read_by_dotted_name() -> None:
    found = read_comments(ROOT / "params.yaml")
    assert found["reward.tune.lr"].startswith("AdamW")
    ones_on_a_line = {name.rpartition(".")[0] for name in leaves(read_yaml(ROOT / "params.yaml")) if name not in found}
    assert ones_on_a_line <= set(found)  # mappings in braces


def test_an_unknown_name_gets_the_nearest(files: Files) -> None:
    with pytest.raises(UserError, match=r"no parameter 'ppo.klcoef'; nearest: ppo.kl_coef"):
        explain("ppo.klcoef", files)
    with pytest.raises(UserError, match=r"nearest: .*ppo\.lr"):
        explain("lr", files)


def test_what_differs_from_the_profile(files: Files) -> None:
    assert differences(files) == ["nothing differs from the profile tiny"]
    theirs = read_yaml(files.profiles / "tiny.yaml")["ppo"]["kl_coef"]
    Project(files.params.parent).set({"ppo.kl_coef": 0.123})
    (line,) = differences(files)
    assert line.startswith("ppo.kl_coef = 0.123")
    assert str(theirs) in line


def test_the_command_explains_and_writes_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.params.parent)
    done = CliRunner().invoke(main, ["--explain", "ppo.kl_coef"])
    assert done.exit_code == 0
    assert done.output.startswith("ppo.kl_coef = ")
    assert CliRunner().invoke(main, ["--explain"]).output.startswith("nothing differs")
    assert not Path("params.resolved.json").exists()
