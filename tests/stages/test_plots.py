"""`dvc plots show` and `dvc plots diff` draw the curves of the stages, which are those of the report."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.core.yaml import read_yaml
from rlhf.report.ppo import CURVES
from tests.stages.forker import Forker
from tests.stages.project import MICRO, Project

ROOT = Path(__file__).resolve().parents[2]
DVC = read_yaml(ROOT / "dvc.yaml")
PLOTS = {title: spec for plot in DVC["plots"] for title, spec in plot.items()}


def drawn() -> Iterator[tuple[str, str, str]]:
    """(title, file, column) of each line, the horizontal axis included."""
    for title, spec in PLOTS.items():
        for file, columns in spec["y"].items():
            for column in [spec["x"], *([columns] if isinstance(columns, str) else columns)]:
                yield title, file, column


def outs() -> set[str]:
    """Every curve that a stage writes."""
    stages = [stage.get("do", stage) for stage in DVC["stages"].values()]
    named = [out if isinstance(out, str) else next(iter(out)) for stage in stages for out in stage.get("outs", [])]
    return {out for out in named if out.startswith("plots/")}


def test_every_curve_that_a_stage_writes_is_drawn() -> None:
    assert outs() == {file for _, file, _ in drawn()}
    # That they have the columns is seen where they are written: test_pipeline.


def test_every_axis_has_a_label_that_says_its_unit() -> None:
    assert [title for title, spec in PLOTS.items() if "y_label" not in spec] == []
    named = {"step", "epoch", "iteration"}  # these say themselves what they count
    assert [title for title, spec in PLOTS.items() if spec["x"] not in named and "x_label" not in spec] == []


def test_the_report_draws_what_dvc_plots_draws() -> None:
    wanted = {("ppo", column) for *_, columns in CURVES for column in columns} | {("ppo", "score"), ("ppo", "reward")}
    wanted |= {("overoptimisation", judge) for judge in ("proxy", "gold", "referee")}
    wanted |= {("reward_calibration", "accuracy"), ("compare", "reward"), ("compare", "gold")}
    losses = ("train_loss", "validation_loss")
    wanted |= {(stage, column) for stage in ("base", "sft", "reward") for column in losses}
    there = {(file, column) for _, file, column in drawn()}
    assert {(f"plots/{name}.csv", column) for name, column in wanted} - there == set()


@pytest.mark.slow
@pytest.mark.pipeline
def test_dvc_draws_two_commits_over_one_another(forker: Forker, tmp_path: Path) -> None:
    project, text = Project.copy(tmp_path / "project", MICRO, forker), {}
    for file in outs():
        columns = sorted({column for _, of, column in drawn() if of == file})
        rows = [",".join(columns), *(",".join([str(row)] * len(columns)) for row in range(9))]
        text[file] = "\n".join(rows) + "\n"
        (project.folder / file).parent.mkdir(exist_ok=True)
        (project.folder / file).write_text(text[file])
    project.commit("one")
    (project.folder / "plots" / "ppo.csv").write_text("".join(text["plots/ppo.csv"].splitlines(keepends=True)[:5]))
    project.commit("two")
    found = json.loads(project.dvc("plots", "diff", "HEAD~1", "HEAD", "--json").stdout)
    assert not found.get("errors")
    assert found["data"].keys() == PLOTS.keys()
    (score,) = found["data"]["PPO score"]
    counts = Counter(point["rev"] for point in score["content"]["data"]["values"])
    assert counts == {"HEAD~1": 18, "HEAD": 8}  # two lines in one figure
    project.dvc("plots", "diff", "HEAD~1", "--out", "drawn")
    page = project.read("drawn/index.html").decode()
    assert [title for title in PLOTS if title not in page] == []
