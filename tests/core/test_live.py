"""Live curves hold the rows once each, after a kill too, and change nothing else."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.core import live
from rlhf.core.curves import Curve
from rlhf.core.errors import UserError

pytest.importorskip("dvclive")
pytest.importorskip("tensorboard")
ROWS = [{"iteration": i, "score": i / 4, "kl": 1.0 if i else None, "note": "x"} for i in range(5)]


def shown(folder: Path, kind: str, name: str) -> list[tuple[int, float]]:
    """(step, value) of one column, read by the dashboards' own means."""
    if kind == "dvclive":
        with (folder / kind / "ppo" / "plots" / "metrics" / f"{name}.tsv").open() as file:
            return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file, delimiter="\t")]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / kind / "ppo"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


@pytest.mark.parametrize("kind", ["dvclive", "tensorboard"])
def test_a_resumed_run_doubles_no_point(kind: live.Kind, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after row 3, whose checkpoint held two rows; the next process starts anew from these."""
    monkeypatch.chdir(folder)
    for rows, more in (((), ROWS[:4]), (ROWS[:2], ROWS[2:])):
        live.start(Path(".live"), [kind])
        curve = Curve(Path("plots/ppo.csv"), rows)
        for row in more:
            curve.append(row)
    live.start(Path(".live"), [])
    assert shown(Path(".live"), kind, "score") == [(i, i / 4) for i in range(5)]
    assert shown(Path(".live"), kind, "kl") == [(i, 1.0) for i in range(1, 5)]
    assert Path("dvc.yaml").read_text() == "stages: {}\n"
    assert sorted(path.name for path in Path().iterdir()) == [".live", "dvc.yaml", "plots"]


def test_the_file_is_the_same_with_and_without(tmp_path: Path) -> None:
    kinds: list[list[live.Kind]] = [[], ["tensorboard"]]
    for number, kind in enumerate(kinds):
        live.start(tmp_path / "live", kind)
        curve = Curve(tmp_path / f"{number}" / "ppo.csv")
        for row in ROWS:
            curve.append(row)
    live.start(tmp_path / "live", [])
    assert (tmp_path / "0" / "ppo.csv").read_bytes() == (tmp_path / "1" / "ppo.csv").read_bytes()


def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.core.live.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"live\.to: tensorboard is not installed; `pip install tensorboard`"):
        live.start(Path("x"), ["tensorboard"])


def test_off_imports_nothing() -> None:
    code = "import sys, rlhf.core.curves; sys.exit(bool({'dvclive', 'tensorboard', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
