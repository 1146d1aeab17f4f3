from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_jsonl
from rlhf.core.layout import Layout
from rlhf.prepare.build import BaseChoice, prepare
from rlhf.prepare.read_rankings import ranking_pairs
from rlhf.prepare.rows import BadRow, Comparison, RawRow
from rlhf.prepare.write import write_prepared
from tests.prepare.helpers import data_params, write_lines

ROW: dict[str, Any] = {"prompt": "Why?", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "annotator": "ann"}


def read(**changes: Any) -> list[Comparison | BadRow]:
    return list(ranking_pairs(RawRow("f:3", ROW | changes)))


def test_a_ranking_becomes_its_weighted_pairs() -> None:
    found = read()
    assert found == [Comparison("Why?", "b", worse, "f:3", weight=1 / 3, annotator="ann") for worse in "ac"]


def test_lists_in_csv_are_json_and_the_annotator_may_be_missing() -> None:
    found = list(ranking_pairs(RawRow("f:1", {"prompt": "Why?", "responses": '["a", "b"]', "ranks": "[2, 1]"})))
    assert [(p.chosen, p.rejected, p.weight, p.annotator) for p in found if isinstance(p, Comparison)] == [
        ("b", "a", 1.0, None)
    ]


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"ranks": [1, 1, 1]}, "tie", "same rank"),
        ({"ranks": [1, 2]}, "wrong_type", "a rank each: 3 and 2"),
        ({"ranks": [1, 2, True]}, "wrong_type", "ranks: expected a list of numbers"),
        ({"ranks": [1, 2, float("nan")]}, "wrong_type", "ranks: expected a list of numbers"),
        ({"ranks": "1 2 3"}, "wrong_type", "ranks: expected a list of numbers"),
        ({"responses": ["a", None, "c"]}, "wrong_type", "responses: expected a list of texts"),
        ({"responses": 3}, "wrong_type", "responses: expected a list of texts"),
        ({"responses": ["a", " ", "c"]}, "empty_reply", "no text"),
        ({"prompt": 3}, "wrong_type", "prompt and annotator"),
        ({"prompt": " "}, "empty_prompt", "empty"),
        ({"responses": ["a", "\ud800", "c"]}, "not_utf8", "surrogate"),
        ({"responses": ["a"], "ranks": [1]}, "wrong_type", "two responses or more"),
    ],
)
def test_bad_rankings_have_a_rule_and_a_place(changes: dict[str, Any], rule: str, reason: str) -> None:
    first = read(**changes)[0]
    assert isinstance(first, BadRow)
    assert (first.rule, first.origin) == (rule, "f:3")
    assert reason in first.reason


def test_a_missing_column_is_named() -> None:
    (found,) = ranking_pairs(RawRow("f:1", {"prompt": "Why?", "responses": []}))
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
