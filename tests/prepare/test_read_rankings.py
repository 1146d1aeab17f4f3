from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_jsonl
from rlhf.core.layout import Layout
from rlhf.prepare.build import BaseChoice, make_writer, prepare
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Pair
from rlhf.prepare.sources import Source
from rlhf.prepare.write import write_prepared
from rlhf.prepare.written import write_all
from tests.prepare.helpers import data_params, write_lines

ROW: dict[str, Any] = {"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "annotator": "ann"}


def read(folder: Path, row: dict[str, Any], form: str = "rankings") -> list[Pair | BadRow]:
    path = write_lines(folder / "r.jsonl", [row])
    data = data_params(path=str(path), format=form)
    return list(write_all(Source(data, 0), make_writer(data, None, None), Ledger()))


def short(found: list[Pair | BadRow]) -> list[tuple[str, str, float, str | None]]:
    return [(p.chosen, p.rejected, p.weight, p.annotator) for p in found if isinstance(p, Pair)]


def test_a_ranking_becomes_its_weighted_pairs(tmp_path: Path) -> None:
    found = read(tmp_path, ROW)
    assert short(found) == [(" b", f" {worse}", 1 / 3, "ann") for worse in "ac"]
    assert {(p.prompt, p.turns) for p in found if isinstance(p, Pair)} == {("\n\nHuman: Why?\n\nAssistant:", 1)}


def test_lists_in_csv_are_json_or_python_and_the_annotator_may_be_missing(tmp_path: Path) -> None:
    for replies in ('["a", "b"]', "['a', 'b']"):
        row = {"prompt": "Why?", "responses": replies, "ranks": "[2, 1]"}
        assert short(read(tmp_path, row)) == [(" b", " a", 1.0, None)]


def test_a_rows_weight_is_shared_by_the_pairs_of_its_ranking(tmp_path: Path) -> None:
    found = read(tmp_path, ROW | {"weight": 0.6, "margin": 2})
    assert [(p.weight, p.margin) for p in found if isinstance(p, Pair)] == [(pytest.approx(0.2), 2.0)] * 2


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"ranks": [1, 1, 1]}, "tie", "same rank"),
        ({"ranks": [1, 2]}, "wrong_type", "a number for each: 3 and 2"),
        ({"ranks": [1, 2, True]}, "wrong_type", "ranks[2]: expected a number"),
        ({"ranks": [1, 2, float("nan")]}, "wrong_type", "ranks[2]: expected a number"),
        ({"ranks": "1 2 3"}, "wrong_type", "ranks: expected a list of numbers"),
        ({"responses": ["a", None, "c"]}, "null_reply", "responses[1]: expected text"),
        ({"responses": 3}, "wrong_type", "responses: expected a list of texts"),
        ({"responses": ["a", " ", "c"]}, "blank_reply", "responses[1]"),
        ({"prompt": 3}, "wrong_type", "prompt: expected text"),
        ({"annotator": 1.5}, "wrong_type", "annotator: expected text"),
        ({"prompt": " "}, "empty_prompt", "empty"),
        ({"responses": ["a", "\ud800", "c"]}, "not_utf8", "surrogate"),
        ({"responses": ["a"], "ranks": [1]}, "wrong_type", "two responses or more"),
    ],
)
def test_bad_rankings_have_a_rule_and_a_place(changes: dict[str, Any], rule: str, reason: str, tmp_path: Path) -> None:
    first = read(tmp_path, ROW | changes)[0]
    assert isinstance(first, BadRow)
    assert (first.rule, first.origin) == (rule, f"{tmp_path / 'r.jsonl'}:1")
    assert reason in first.reason


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (found,) = read(tmp_path, {"prompt": "Why?", "responses": []})
    assert isinstance(found, BadRow)
    assert (found.rule, found.reason) == ("missing_column", "no column 'ranks'; found prompt, responses")


def test_rankings_go_through_the_stage(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {k}?", "responses": [f"a {k}", f"b {k}", f"c {k}", f"d {k}"], "ranks": [1, 2, 3, 4],
         "annotator": who}
        for k in range(30)
        for who in ("ann", "bob")
    ]  # fmt: skip
    path = write_lines(tmp_path / "r.jsonl", rows)
    prepared = prepare(
        data_params(path=str(path), format="rankings"), BaseChoice("pretrain", None, None, None, 4096), seed=0
    )
    assert prepared.metrics["prepare_rows_kept"] == 30 * 2 * 6
    assert prepared.metrics["prepare_dropped_duplicate"] == 0  # two annotators who agree are two
    write_prepared(prepared, Layout(tmp_path))
    splits = [tmp_path / "artifacts/prepare/pairs" / f"{name}.jsonl" for name in ("train", "validation", "test")]
    written = [row for split in splits for row in read_jsonl(split)]
    assert {row["annotator"] for row in written} == {"ann", "bob"}
    assert sum(row["weight"] for row in written) == pytest.approx(60, abs=1e-3)
