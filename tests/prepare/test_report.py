"""The data report on six pairs, every number worked by hand."""

import pytest

from rlhf.prepare.lengths import Lengths
from rlhf.prepare.report import data_report
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Pair


def pair(prompt: str, chosen: str, rejected: str, turns: int = 1) -> Pair:
    return Pair(prompt, chosen, rejected, "f:1", None, turns)


SPLITS = {
    "train": [pair("a", " one two", " one"), pair("a", " one", " one two"), pair("b", " x", " y", turns=2)],
    "validation": [pair("c", " one two three", " x")],
    "test": [pair("d", " four", " five"), pair("A", " x x", " y")],  # "A" is the prompt "a" of train: a leak
}
LENGTHS = [Lengths(10, i, 2 * i) for i in range(1, 7)]


def test_every_number() -> None:
    ledger = Ledger(read=9, kept=6)
    ledger.dropped.update(duplicate=1, long_chosen=1)
    ledger.set_aside.append(BadRow("f:7", "tie", "same"))
    ledger.check()
    report = data_report(ledger, SPLITS, LENGTHS)
    assert (report["prepare_rows_read"], report["prepare_rows_kept"]) == (9, 6)
    assert (report["prepare_rows_dropped"], report["prepare_rows_set_aside"]) == (2, 1)
    assert (report["prepare_dropped_duplicate"], report["prepare_dropped_short_chosen"]) == (1, 0)
    assert (report["prepare_set_aside_tie"], report["prepare_set_aside_not_json"]) == (1, 0)
    assert (report["prepare_pairs_train"], report["prepare_prompts_train"]) == (3, 2)
    assert report["prepare_prompts"] == 4
    assert report["prepare_prompts_on_two_sides"] == 1
    assert report["prepare_contradictions"] == 2
    assert report["prepare_longer_chosen"] == pytest.approx(3 / 6)  # equal lengths are not longer
    assert report["prepare_several_turns"] == pytest.approx(1 / 6)
    assert report["prepare_tokens_chosen_p50"] == pytest.approx(13.5)
    assert report["prepare_tokens_chosen_p90"] == pytest.approx(15.5)
    assert report["prepare_tokens_rejected_p50"] == pytest.approx(17)
    assert report["prepare_words_chosen_p50"] == pytest.approx(1.5)


def test_a_row_that_is_not_accounted_for_is_noticed() -> None:
    with pytest.raises(AssertionError, match="3 rows read, but 2 accounted for"):
        Ledger(read=3, kept=2).check()


def test_the_summary_leaves_out_what_did_not_happen() -> None:
    ledger = Ledger(read=4, kept=2)
    ledger.dropped.update(long_rejected=1)
    ledger.set_aside.append(BadRow("f:7", "tie", "same"))
    assert ledger.summary() == "4 rows read, 2 kept; dropped: 1 long_rejected; set aside: 1 tie"


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="no such rule"):
        BadRow("f:1", "odd", "")
