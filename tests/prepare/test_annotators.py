"""Several annotators over the same responses: by hand, and through the stage's code from a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_jsonl
from rlhf.core.layout import Layout
from rlhf.prepare.annotators import compare_annotators, pair_ranking
from rlhf.prepare.build import BaseChoice, Prepared, prepare
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.rows import Pair
from rlhf.prepare.write import write_prepared
from tests.prepare.helpers import data_params, write_lines

BASE = BaseChoice("pretrain", None, None, None, 4096)


def two(labels: list[tuple[int, int]], names: tuple[str, str] = ("ann", "bob")) -> list[Ranking]:
    """Comparisons of a and b; each label is the rank of a (1 first, 2 second, 0 tie), one an annotator."""
    ranks: dict[int, tuple[float, float]] = {1: (1, 2), 2: (2, 1), 0: (1, 1)}
    return [
        Ranking(f"q{k}", ("a", "b"), ranks[label], name)
        for k, both in enumerate(labels)
        for name, label in zip(names, both, strict=True)
    ]


def test_two_annotators_by_hand() -> None:
    """Both first 4, both second 2, first against second 2: p_o .75, p_e (6·4 + 2·4)/64 = .5, kappa .5.

    Alpha: 16 labels, 10 first and 6 second; D_o = 2·2/16, D_e = 2·10·6/(16·15); 1 - .25/.5 = .5.
    """
    found = compare_annotators(two([(1, 1)] * 4 + [(2, 2)] * 2 + [(1, 2)] * 2))
    assert found.metrics["prepare_annotators"] == 2
    assert found.metrics["prepare_comparisons_shared"] == 8
    assert found.metrics["prepare_comparisons_disputed"] == 2
    assert found.metrics["prepare_annotator_agreement"] == 0.75
    assert found.metrics["prepare_annotator_kappa"] == pytest.approx(0.5)
    assert found.metrics["prepare_annotator_alpha"] == pytest.approx(0.5)
    assert [row["prompt"] for row in found.disputed] == ["q6", "q7"]
    assert found.disputed[0]["labels"] == {"ann": "first", "bob": "second"}


def test_ties_are_labels_and_three_annotators_have_no_kappa() -> None:
    third = [Ranking("q0", ("a", "b"), (1, 1), "cyd"), Ranking("q9", ("a", "b"), (1, 2), "cyd")]
    found = compare_annotators(two([(1, 1)]) + third)
    assert found.metrics["prepare_annotator_kappa"] is None
    assert found.metrics["prepare_annotator_agreement"] == pytest.approx(1 / 3)  # of ann-bob, ann-cyd, bob-cyd
    assert found.metrics["prepare_comparisons_shared"] == 1  # q9 has one label
    assert {(row["first"], row["second"]) for row in found.couples} == {("ann", "bob"), ("ann", "cyd"), ("bob", "cyd")}


def test_nobody_named_or_nobody_shared() -> None:
    for rankings, count in (([], 0), (two([(1, 2)], ("", "")), 0), (two([(1, 2)], ("ann", "")), 1)):
        found = compare_annotators(rankings)
        assert (found.metrics["prepare_annotators"], found.couples, found.disputed) == (count, [], [])
        assert found.metrics["prepare_annotator_alpha"] is None


def test_a_pair_is_a_ranking_of_two() -> None:
    assert pair_ranking(Pair("p", " x", " y", "f:1", None, 1)) == Ranking("p", (" x", " y"), (1.0, 2.0), "")


def rows(kind: str) -> list[dict[str, Any]]:
    """Two annotators on 30 questions; they differ on every third, once as a tie in rankings."""
    found: list[dict[str, Any]] = []
    for k in range(30):
        for who in ("ann", "bob"):
            differs = who == "bob" and k % 3 == 0
            if kind == "rankings":
                ranks = [1, 1] if differs and k == 0 else [2, 1] if differs else [1, 2]
                row: dict[str, Any] = {"responses": [f"a {k}", f"b {k}"], "ranks": ranks}
                if differs and k == 0:
                    row = {"responses": [f"a {k}", f"b {k}", f"c {k}"], "ranks": [1, 1, 2]}
            else:
                one, other = (f"b {k}", f"a {k}") if differs else (f"a {k}", f"b {k}")
                row = {"chosen": one, "rejected": other}
            found.append({"prompt": f"Question {k}?", "annotator": who} | row)
    return found


@pytest.mark.parametrize("kind", ["rankings", "pairs"])
def test_from_a_file_to_metrics_and_files(tmp_path: Path, kind: str) -> None:
    def go(folder: str, path: Path) -> Prepared:
        prepared = prepare(data_params(path=str(path), format=kind), BASE, seed=0)
        write_prepared(prepared, Layout(tmp_path / folder))
        return prepared

    prepared = go("two", write_lines(tmp_path / "two.jsonl", rows(kind)))
    assert prepared.metrics["prepare_annotators"] == 2
    assert prepared.metrics["prepare_comparisons_shared"] == 30
    assert prepared.metrics["prepare_comparisons_disputed"] == 10
    assert prepared.metrics["prepare_annotator_agreement"] == pytest.approx(20 / 30)
    folder = tmp_path / "two/artifacts/prepare/pairs"
    disputed = read_jsonl(folder / "disagreements.jsonl")
    assert len(disputed) == 10
    assert disputed[0]["prompt"] == "\n\nHuman: Question 0?\n\nAssistant:"
    assert {row["labels"]["bob"] for row in disputed} == ({"second", "tie"} if kind == "rankings" else {"second"})
    (couple,) = json.loads((folder / "annotators.json").read_text())
    assert (couple["first"], couple["second"], couple["comparisons"]) == ("ann", "bob", 30)

    alone = [row for row in rows(kind) if row["annotator"] == "ann"]
    go("one", write_lines(tmp_path / "one.jsonl", alone))
    assert not (tmp_path / "one/artifacts/prepare/pairs/disagreements.jsonl").exists()


def test_the_interval_of_a_share_is_one() -> None:
    rankings = [
        Ranking(f"p{k}", ("a", "b"), (1.0, 2.0) if k or who == "x" else (2.0, 1.0), who)
        for k in range(3)
        for who in "xy"
    ]
    found = compare_annotators(rankings).metrics
    # 2 of 3 shares are 1: mean 2/3, deviation .577, t of 2 degrees 4.303: 2/3 -+ 1.434, beyond both ends
    assert found["prepare_annotator_agreement"] == pytest.approx(2 / 3)
    assert (found["prepare_annotator_agreement_low"], found["prepare_annotator_agreement_high"]) == (0, 1)
