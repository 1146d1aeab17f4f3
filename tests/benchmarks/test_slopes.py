"""`make bench-slopes` at a size of seconds, and its arithmetic."""

import json
from pathlib import Path

import pytest

from benchmarks.slopes import scales, slope
from tests.benchmarks.commands import command


def test_slope_is_the_power_with_which_the_cost_grows() -> None:
    assert slope([8, 16, 32], [3.0 * n**2 for n in (8, 16, 32)]) == pytest.approx(2.0)
    assert slope([8, 32], [5.0, 5.0]) == pytest.approx(0.0)


def test_scales_reach_what_they_promise() -> None:
    for scale in ("small", "gpt2"):
        axes = scales()[scale]
        assert [min(axes["batch"]), max(axes["batch"])] == [8, 512]
        assert [min(axes["response length"]), max(axes["response length"])] == [32, 512]
        for n, shape in axes["batch"].items():
            assert shape.batch == n
        for n, shape in axes["response length"].items():
            assert shape.response == shape.shortest == n
            assert shape.prompt + n <= 1024
        for n, shape in axes["width"].items():
            assert shape.hidden == n
            assert shape.hidden % shape.heads == 0
    small = scales()["small"]["width"]
    assert {shape.hidden // shape.heads for shape in small.values()} == {32}


@pytest.mark.slow
@pytest.mark.thorough
def test_the_command_measures_every_axis(tmp_path: Path) -> None:
    command("benchmarks.slopes", "--scale", "micro", "--threads", "1", "--steps", "1", "--out", str(tmp_path))
    found = json.loads((tmp_path / "slopes.json").read_text())
    assert set(found["axes"]) == {"batch", "response length", "width"}
    for axis in found["axes"].values():
        assert set(axis["slope"]) == {"rollout", "scoring", "update", "total"}
        assert all(seconds["total"] > 0 for seconds in axis["seconds"].values())
    assert "slope of the last two" in (tmp_path / "slopes.md").read_text()
