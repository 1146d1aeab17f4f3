"""Seeds, intervals, curves, interrupts, YAML, sections: the small rooms of the core."""

import math
import os
import signal
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from rlhf.core import seeding
from rlhf.core.curves import Curve
from rlhf.core.errors import Stopped, UserError
from rlhf.core.params import Section, check
from rlhf.core.yaml import read_yaml
from rlhf.training.interrupt import interruptible

KNOWN = 8786582722607710442


def test_a_seed_depends_on_every_part_of_its_place() -> None:
    places = [(0, "a", 1), (1, "a", 1), (0, "a", 2), (0, "a", "1"), (0, "a1"), (0, "a"), (0, "a", 1, 0)]
    seeds = {seeding.derive(seed, *stream) for seed, *stream in places}
    assert len(seeds) == len(places)
    assert all(0 <= s < 2**63 for s in seeds)


def test_known_draws_never_change() -> None:
    """A changed derivation would silently change every result: this value was worked out with sha256sum."""
    # printf 'int:1:7|str:3:ppo|int:1:3' | sha256sum: f3e06cdda53c01d4...; the seed is its first 64 bits, shifted right.
    assert seeding.derive(7, "ppo", 3) == KNOWN
    assert torch.equal(
        torch.rand(3, generator=seeding.generator(7, "ppo", 3)),
        torch.rand(3, generator=torch.Generator().manual_seed(KNOWN)),
    )


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_moving_a_boundary_between_parts_changes_the_seed(a: str, b: str, c: str) -> None:
    if (a + b, c) != (a, b + c):
        assert seeding.derive(0, a + b, c) != seeding.derive(0, a, b + c)


def test_a_curve_is_whole_after_every_row_and_the_same_when_resumed(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "c.csv")
    curve.append({"step": 1, "loss": 0.1 + 0.2, "note": None})
    assert (tmp_path / "c.csv").read_text() == '"step","loss","note"\n"1","0.3",""\n'
    resumed = Curve(tmp_path / "again.csv", curve.rows)
    for c in (curve, resumed):
        c.append({"step": 2, "loss": 1e-7, "note": "x"})
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    with pytest.raises(ValueError, match="do not match"):
        curve.append({"step": 3})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_step_after_saving(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    saved: list[int] = []
    steps = 0
    with pytest.raises(Stopped), interruptible() as stop:
        for step in range(5):
            steps = step
            if step == 2:
                os.kill(os.getpid(), number)
            stop.check(lambda step=step: saved.append(step))
    assert (steps, saved) == (2, [2])
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second signal should have interrupted")


def test_yaml_is_1_2_and_names_the_line_of_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("lr: 1e-5\nswitch: off\n")
    assert read_yaml(path) == {"lr": 1e-5, "switch": "off"}
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(UserError, match=r"p\.yaml:2: .*duplicate key"):
        read_yaml(path)
    path.write_text("a: 1\nb: [1\n")
    with pytest.raises(UserError, match=r"p\.yaml:3: not YAML"):
        read_yaml(path)
    for odd in ("a: b\0c\n", f"a: 1{'0' * 5000}\n", "a: 2020-13-01\n"):
        path.write_text(odd)
        with pytest.raises(UserError, match=r"p\.yaml: not YAML that can be read") as caught:
            read_yaml(path)
        assert "\n" not in str(caught.value)
    path.write_text("- 1\n")
    with pytest.raises(UserError, match="expected a mapping, found list"):
        read_yaml(path)


class Inner(Section):
    rank: int


class Outer(Section):
    kind: Literal["a", "b"]
    coefficient: float
    inner: Inner
    count: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    names: Literal["auto"] | list[str] = "auto"
    several: list[Inner | Literal["none"]] | None = None


GOOD = {"kind": "a", "coefficient": 1, "inner": {"rank": 8}}


def test_sections_are_strict_and_frozen() -> None:
    section = check(Outer, GOOD, where="p.yaml")
    assert section.coefficient == 1.0
    assert isinstance(section.coefficient, float)
    with pytest.raises(ValueError, match="frozen"):
        section.kind = "b"  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"coeficient": 1.0},
            "p.yaml: outer.coeficient: unknown key; known here: coefficient, count, inner, kind, names, several",
        ),
        ({"inner": {"rank": 8, "rnk": 1}}, "outer.inner.rnk: unknown key; known here: rank"),
        ({"inner": {}}, "outer.inner.rank: missing"),
        ({"coefficient": "1e-3"}, "outer.coefficient: Input should be a valid number (found '1e-3')"),
        ({"coefficient": math.nan}, "outer.coefficient: Input should be a finite number (found nan)"),
        ({"inner": {"rank": 8.5}}, "outer.inner.rank: Input should be a valid integer (found 8.5)"),
        ({"inner": {"rank": True}}, "outer.inner.rank: Input should be a valid integer (found True)"),
        ({"kind": "c"}, "outer.kind: Input should be 'a' or 'b' (found 'c')"),
        ({"count": "all"}, "p.yaml: outer.count: Input should be 'auto' or a valid integer (found 'all')"),
        ({"count": 0}, "p.yaml: outer.count: Input should be 'auto' or greater than or equal to 1 (found 0)"),
        ({"names": 3}, "p.yaml: outer.names: Input should be 'auto' or a valid list (found 3)"),
        ({"names": ["q", 3]}, "p.yaml: outer.names.1: Input should be a valid string (found 3)"),
        (
            {"several": [{"rank": 1}, {"rank": "x"}]},
            "p.yaml: outer.several.1.rank: Input should be a valid integer (found 'x')",
        ),
        (
            {"several": ["some"]},
            "p.yaml: outer.several.0: Input should be a valid dictionary or instance of Inner or 'none' (found 'some')",
        ),
    ],
)
def test_a_bad_value_is_one_line_with_file_key_found_and_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Outer, GOOD | change, where="p.yaml", key="outer")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
