"""What changed between a commit and the folder, by numbers and rows that are made up."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlhf.core.errors import UserError
from rlhf.diff.run import Difference, difference
from rlhf.diff.write import write
from rlhf.runs.headlines import SEEDS
from rlhf.runs.seed_table import SeedTable, keys_of, write_tables
from stages.diff import main
from tests.verify.toy import STAGES, Toy, dag
from tests.verify.toy import write as write_file

RESOLVED = {"profile": "toy", "seed": 0, "data": {"validation_share": 0.1}} | dict.fromkeys(STAGES, 1)
METRICS = {"ppo": {"ppo_kl_final": 5.0, "ppo_steps": 30, "ppo_entropy": 1.0}, "evaluate": {"eval_kl": 5.0},
           "prepare": {"prepare_rows_read": 6, "prepare_rows_kept": 4, "prepare_rows_dropped": 1,
                       "prepare_rows_set_aside": 1, "prepare_dropped_duplicate": 1, "prepare_set_aside_tie": 1,
                       "prepare_set_aside_not_json": 0, "prepare_pairs_train": 3, "prepare_pairs_test": 1}}  # fmt: skip


def row(word: str, number: int) -> dict[str, str]:
    return {"id": "x", "prompt": word, "chosen": "yes", "rejected": "no", "origin": f"pairs.jsonl:{number}"}


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in rows)


BEFORE = {"train.jsonl": lines([row("a", 1), row("b", 2), row("c", 3)]), "validation.jsonl": "",
          "test.jsonl": lines([row("d", 4)]),
          "set_aside.jsonl": lines([{"origin": "pairs.jsonl:5", "rule": "tie"}])}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Toy:
    """A run that is committed, its table of seeds, and the rows of its data in DVC's cache as DVC 3 lays them out."""
    toy = Toy(tmp_path / "project")
    write_file(toy.folder / "dvc.yaml", dag())
    write_file(toy.folder / "params.yaml", "profile: toy\n")
    write_file(toy.folder / ".gitignore", "/artifacts/\n/.dvc/cache/\n")
    for stage in STAGES:
        write_file(toy.folder / "rlhf" / stage / "code.py", "VALUE = 1\n")
    write_file(toy.folder / "params.resolved.json", json.dumps(RESOLVED))
    for stage, metrics in METRICS.items():
        write_file(toy.folder / "metrics" / f"{stage}.json", json.dumps(metrics))
    rows(toy, BEFORE)
    entries = [{"md5": stored(toy, text), "relpath": name} for name, text in sorted(BEFORE.items())]
    folder = stored(toy, json.dumps(entries), ".dir")
    locked = {"cmd": "x", "outs": [{"path": "artifacts/prepare/pairs", "md5": folder, "size": 1}]}
    write_file(toy.folder / "dvc.lock", json.dumps({"stages": {"prepare": locked}}))
    draw = random.Random(0)
    seeds: dict[str, dict[str, float]] = {
        str(seed): {"ppo_kl_final": draw.gauss(5, 1), "eval_kl": draw.gauss(5, 1), "ppo_entropy": draw.gauss(1, 0.1)}
        for seed in range(SEEDS)
    }
    table = SeedTable("toy", keys_of(toy.folder, RESOLVED), {}, seeds)
    write_tables(toy.folder / "benchmarks/results/seed_spread.json", {"toy": table})
    toy.run("git", "init", "-q")
    toy.commit()
    return toy


def rows(toy: Toy, files: dict[str, str]) -> None:
    for name, text in files.items():
        write_file(toy.folder / "artifacts/prepare/pairs" / name, text)


def stored(toy: Toy, text: str, ending: str = "") -> str:
    md5 = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ending
    write_file(toy.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:], text)
    return md5


def change(toy: Toy, stage: str, **values: Any) -> None:
    write_file(toy.folder / "metrics" / f"{stage}.json", json.dumps(METRICS[stage] | values))


def look(toy: Toy, commit: str = "HEAD") -> Difference:
    return difference(toy.folder, commit)


def test_nothing_changed(project: Toy) -> None:
    found = look(project)
    assert [one.by for one in found.numbers.headlines] == [0.0, 0.0]
    assert found.numbers.others == []
    assert found.moved == {}
    assert write(found, markdown=False).startswith("0 of 2 headline numbers changed since ")


def test_what_exceeds_another_seed_and_what_does_not(project: Toy) -> None:
    change(project, "ppo", ppo_kl_final=6.5, ppo_entropy=3.0, ppo_steps=29)
    change(project, "evaluate", eval_kl=50.0)
    found = look(project)
    assert {one.name: one.exceeds for one in found.numbers.headlines} == {"ppo_kl_final": False, "eval_kl": True}
    assert {one.name: one.exceeds for one in found.numbers.others} == {"ppo_entropy": True, "ppo_steps": None}
    said = write(found, markdown=False)
    first = said.splitlines()[0]
    assert first.startswith("1 of 2 headline numbers changed since ")
    assert "eval_kl (by 20 seeds of profile toy, familywise 5%)" in first
    page = write(found, markdown=True)
    assert "| metric | before | after | change | another seed: up to |  |" in page
    assert "| eval_kl | 5 | 50 | +45 |" in page


def test_a_number_that_came_or_went_exceeds(project: Toy) -> None:
    change(project, "evaluate", eval_kl=None, eval_gold_ppo=1.0)
    assert {one.name: one.exceeds for one in look(project).numbers.headlines} == {
        "ppo_kl_final": False, "eval_gold_ppo": True, "eval_kl": True,
    }  # fmt: skip
    last = {
        words[0]: words[-1] for line in write(look(project), markdown=False).splitlines() if (words := line.split())
    }
    assert (last["eval_gold_ppo"], last["eval_kl"]) == ("new", "gone")


def test_a_table_of_other_code_is_used_and_called_outdated(project: Toy) -> None:
    write_file(project.folder / "rlhf/ppo/code.py", "VALUE = 2\n")
    assert "outdated: the code of ppo has changed since" in write(look(project), markdown=False).splitlines()[0]


def test_without_a_table_of_this_run_the_spread_is_unknown(project: Toy) -> None:
    change(project, "evaluate", eval_kl=50.0)
    write_file(project.folder / "params.resolved.json", json.dumps(RESOLVED | {"ppo": 2}))
    project.commit()
    change(project, "evaluate", eval_kl=5.1)
    found = look(project)
    assert found.numbers.headlines[-1].exceeds is None
    assert "spread unknown" in write(found, markdown=False)


def test_rows_that_moved_and_why(project: Toy) -> None:
    write_file(project.folder / "params.resolved.json", json.dumps(RESOLVED | {"seed": 1}))
    rows(project, {"train.jsonl": lines([row("a", 1), row("d", 4)]), "validation.jsonl": lines([row("e", 5)]),
                   "test.jsonl": lines([row("new", 9)]),
                   "set_aside.jsonl": lines([{"origin": "pairs.jsonl:2", "rule": "empty_reply"}])})  # fmt: skip
    change(project, "prepare", prepare_rows_read=7, prepare_dropped_duplicate=0, prepare_dropped_long_chosen=2)
    found = look(project)
    assert found.moved == {
        ("new", "test"): 1,
        ("set aside: tie", "validation"): 1,
        ("test", "train"): 1,
        ("train", "not in the data any more"): 1,
        ("train", "set aside: empty_reply"): 1,
    }
    assert found.why == ["seed: 0 → 1"]
    counted = {what: (old, new) for what, old, new in found.rows}
    assert counted["rows in"] == (6, 7)
    assert counted["dropped: duplicate"] == (1, 0)
    assert counted["dropped: long_chosen"] == (None, 2)
    assert "set aside: not_json" not in counted  # of none in either
    assert "seed: 0 → 1" in write(found, markdown=True)


@pytest.mark.parametrize("lost", ["artifacts/prepare/pairs", ".dvc/cache"])
def test_without_the_rows_it_is_said(project: Toy, lost: str) -> None:
    (project.folder / lost).rename(project.folder / "elsewhere")
    found = look(project)
    assert found.moved is None
    assert "rows that changed split: unknown" in write(found, markdown=False).lower()
    assert found.rows


def test_a_damaged_object_is_no_witness(project: Toy) -> None:
    stored_rows = next(path for path in (project.folder / ".dvc/cache").rglob("*") if path.is_file())
    stored_rows.write_text("{}")
    assert look(project).moved is None


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("metrics/ppo.json", "{", "metrics/ppo.json: not a JSON object"),
        ("metrics/ppo.json", "[1]", "metrics/ppo.json: not a JSON object"),
        ("artifacts/prepare/pairs/train.jsonl", '{"prompt":', "artifacts/prepare/pairs/train.jsonl:1: not a line"),
        ("benchmarks/results/seed_spread.json", '{"toy": 1}', "not a table of seeds"),
        ("params.resolved.json", "{", "params.resolved.json: not JSON"),
    ],
)
def test_broken_files_are_one_line(project: Toy, file: str, text: str, words: str) -> None:
    write_file(project.folder / file, text)
    with pytest.raises(UserError, match=words):
        look(project)


def test_the_command(project: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    assert "headline numbers" in CliRunner().invoke(main, ["HEAD"]).stdout
    assert CliRunner().invoke(main, ["--md"]).stdout.splitlines()[2].startswith("| metric |")
    refused = CliRunner().invoke(main, ["nowhere"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("error: nowhere: no such commit here")
