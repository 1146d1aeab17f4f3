"""The parts of `make scale`: which cases, what they send by hand, and the tables."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.scale.cases import Case, axes
from benchmarks.scale.steps import pretraining
from benchmarks.scale.table import medians, store
from rlhf.core.processes import Processes
from tests.processes import together

SIZES = {"base": (8, 128), "ppo": (128, 128)}
ALONE, TWO = Case("base", 1, 1, 8, 128), Case("base", 2, 2, 8, 128)


def test_each_axis_changes_one_size_and_keeps_a_case_to_compare_with() -> None:
    found = axes(SIZES, 4)
    assert [case for case in found["processes"] if case.what == "base"] == [
        Case("base", shards, processes, 8, 128) for shards, processes in ((1, 1), (2, 1), (2, 2), (4, 1), (4, 4))
    ]
    assert [(case.batch, case.width) for case in found["batch"] if case.what == "ppo" and case.processes == 2] == [
        (64, 128), (128, 128), (256, 128),
    ]  # fmt: skip
    assert [(case.batch, case.width) for case in found["width"] if case.what == "base" and case.processes == 2] == [
        (8, 64), (8, 128), (8, 256),
    ]  # fmt: skip
    for cases in found.values():
        assert {Case(case.what, 1, 1, case.batch, case.width) for case in cases} <= set(cases)
        assert all(case.batch % case.shards == 0 and case.shards % case.processes == 0 for case in cases)
    alone = axes(SIZES, 1)
    assert {case.processes for cases in alone.values() for case in cases} == {1}


@pytest.mark.thorough
@pytest.mark.parametrize("width", [32, 64])
def test_a_step_of_pretraining_sends_its_gradients(tmp_path: Path, width: int) -> None:
    """By hand: a float32 for each weight of GPT-2's shape and one for the loss, and two float64 to agree on the end."""
    layers, vocab, context = 2, 1024, 128
    block = 12 * width**2 + 13 * width  # attention 4 w^2 + 4 w, the layer behind it 8 w^2 + 5 w, two norms 4 w
    weights = vocab * width + context * width + layers * block + 2 * width

    def work(here: Processes) -> None:
        marks = list(pretraining(Case("base", 2, 2, 4, width), 1, tmp_path / str(here.rank)))
        (sent,) = {after[3] - before[3] for before, after in pairwise(marks)}
        assert sent == 4 * (weights + 1) + 2 * 8
        assert all(after[2] - before[2] == 2 for before, after in pairwise(marks))

    together(2, tmp_path / "meetings" / "meeting", work)


def test_the_tables_hold_medians_beside_one_process_of_the_same_sizes(tmp_path: Path) -> None:
    times = {
        ALONE: [{"wall_s": 4.0, "busy_s": 3.0, "messages": 0, "bytes": 0}] * 3,
        TWO: [{"wall_s": wall, "busy_s": 1.6, "messages": 2, "bytes": 2_180_016} for wall in (9.0, 2.0, 1.0)],
    }
    found = {case: medians(own, counts_only=False) for case, own in times.items()}
    about = {"machine": "a machine", "cores": 2, "steps": 5, "repeats": 3}
    text = store(tmp_path, {"width": [ALONE, TWO]}, found, about)
    assert "a machine, 2 cores, a thread for each process; medians of 3 times 5 steps." in text
    assert "| base | 8 | 128 | 2 | 2 | 2.000 | 1.600 | 0.50 | 2 | 2180 |" in text
    assert (tmp_path / "scale.md").read_text() == text
    kept = json.loads((tmp_path / "scale.json").read_text())
    assert kept["axes"]["width"][1] == {
        "what": "base", "shards": 2, "processes": 2, "batch": 8, "width": 128,
        "wall_s": 2.0, "busy_s": 1.6, "messages": 2, "bytes": 2_180_016,
    }  # fmt: skip


def test_counts_alone_keep_no_time(tmp_path: Path) -> None:
    own = [{"wall_s": 4.0, "busy_s": 3.0, "messages": 0, "bytes": 0}]
    found = {ALONE: medians(own, counts_only=True)}
    about = {"machine": "a machine", "cores": 2, "steps": 1, "repeats": 1}
    text = store(tmp_path, {"batch": [ALONE]}, found, about)
    assert "| base | 8 | 128 | 1 | 1 | – | – | – | 0 | 0 |" in text
    assert "counts alone" in text
    assert "4.0" not in text + (tmp_path / "scale.json").read_text()
