"""The table of seeds is made in sittings, belongs to its code and parameters, and is read back as it was written."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.runs.seed_table import Keys, keys_of, read_tables_here, write_tables
from studies import seed_spread
from studies.run import ROOT, STAGES, Run
from tests.studies.pretend import pretend_make

Study = Callable[..., list[str]]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study with runs that only pretend; gives the names of the runs that it asked for."""

    def act(run: Run) -> dict[str, Any]:
        seed = float(str(run.changes["seed"]))
        if seed == 13:
            raise UserError("seed13: evaluate ended with status 1")
        return {"eval_kl": 1 + seed / 100, "eval_kl_low": 0.0, "ppo_kl_final": seed % 3, "ppo_stop_reason": "completed"}

    def ask(*words: str) -> list[str]:
        asked = pretend_make(monkeypatch, act)
        command = ["x", "--work", str(tmp_path / "work"), "--out", str(tmp_path), *words]
        monkeypatch.setattr("sys.argv", command)
        with contextlib.suppress(UserError):
            seed_spread.main()
        return [run.folder.name for run in asked]

    return ask


def numbers(seeds: range) -> list[str]:
    return [str(seed) for seed in seeds]


def test_in_sittings(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "seed_spread.json"
    assert study("--seeds", *numbers(range(11, 20))) == ["seed11", "seed12", "seed13"]  # which fails
    assert set(read_tables_here(path)["tiny"].seeds) == {"11", "12"}
    shutil.rmtree(tmp_path / "work")  # what is in the table is not made again
    assert study("--seeds", "11", "12", "0", "2") == ["seed0", "seed2"]
    assert "2 seeds in the table, 2 to make" in capsys.readouterr().err
    table = read_tables_here(path)["tiny"]
    assert table.columns(["eval_kl", "ppo_kl_final"]) == {
        "eval_kl": [1.0, 1.02, 1.11, 1.12], "ppo_kl_final": [0.0, 2.0, 2.0, 0.0],
    }  # fmt: skip
    assert table.names() == ["eval_kl", "ppo_kl_final"]  # no ends of intervals, no texts
    assert table.versions["torch"]
    page = (tmp_path / "seed_spread.md").read_text()
    assert page.startswith("## tiny: 4 seeds")
    assert "| `eval_kl` | 1.062 | 1 | 1.12 |" in page
    assert "`verify` uses a table from 20 seeds on." in page


def test_its_keys_are_those_that_verify_computes(study: Study, tmp_path: Path) -> None:
    study("--seeds", "0")
    resolved = read_json(tmp_path / "work/seed0/params.resolved.json")
    keys = read_tables_here(tmp_path / "seed_spread.json")["tiny"].keys
    assert keys == keys_of(ROOT, resolved)
    assert keys == keys_of(ROOT, resolved | {"seed": 7, "live": {"to": ["tensorboard"]}})  # which change no run
    assert keys.params != keys_of(ROOT, resolved | {"ppo": {**resolved["ppo"], "lr": 1.0}}).params
    assert set(keys.code) == set(STAGES)


@pytest.fixture
def other_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the code of ppo another."""
    own = seed_spread.keys_now

    def keys(run: Run) -> Keys:
        return Keys({**own(run).code, "ppo": "other"}, own(run).params)

    return lambda: monkeypatch.setattr(seed_spread, "keys_now", keys)


def test_a_table_of_code_that_gives_the_same_numbers_stays(
    study: Study, tmp_path: Path, other_code: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    study("--seeds", "0", "1")
    before = read_tables_here(tmp_path / "seed_spread.json")["tiny"]
    other_code()
    assert study("--seeds", "1", "2") == ["seed0", "seed2"]  # the first again, as the proof
    said = capsys.readouterr().err
    assert "tiny: the code of ppo changed since; seed 0 is made again" in said
    assert "tiny: its 2 numbers are the same, and the table stays" in said
    after = read_tables_here(tmp_path / "seed_spread.json")["tiny"]
    assert set(after.seeds) == {"0", "1", "2"}
    assert after.keys.changed(before.keys) == ["ppo"]
    assert study("--seeds", "0", "1", "2") == []


def test_a_table_of_code_that_gives_other_numbers_is_made_anew(
    study: Study, tmp_path: Path, other_code: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    study("--seeds", "0", "1")
    path = tmp_path / "seed_spread.json"
    table = read_tables_here(path)["tiny"]
    write_tables(path, {"tiny": replace(table, seeds={**table.seeds, "0": {"eval_kl": 1.0, "ppo_kl_final": 0.5}})})
    other_code()
    assert study("--seeds", "0", "2") == ["seed0", "seed0", "seed2"]
    said = capsys.readouterr().err
    assert "1 of its numbers differ (ppo_kl_final: 0.5 was, 0.0 is): all 2 seeds are made again" in said
    assert set(read_tables_here(path)["tiny"].seeds) == {"0", "2"}


def test_profiles_stand_side_by_side(study: Study, tmp_path: Path) -> None:
    study("--seeds", "0")
    assert study("--seeds", "0", "--profile", "gpt2") == ["gpt2-seed0"]
    assert set(read_tables_here(tmp_path / "seed_spread.json")) == {"gpt2", "tiny"}
