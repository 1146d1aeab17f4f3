"""The section on answers: nothing where there are none; by hand where there are."""

from rlhf.report.content import Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.labels import labels
from rlhf.report.wording import Numbers


def of(**values: object) -> Inputs:
    resolved = {"data": {"labels": {"round": 2}}, "report": {"price_per_comparison": 0.5, "currency": "EUR"}}
    numbers = Numbers({f"prepare_labels_{name}": value for name, value in values.items()})
    return Inputs(resolved, {}, numbers, {}, {}, [], [], None, "", None, [])


def test_a_run_without_answers_has_no_such_section() -> None:
    assert labels(of()) is None
    assert labels(of(answers=0)) is None


def test_answers_by_hand() -> None:
    run = of(
        answers=1200, questions=700, pairs=640, pairs_train=640, comparisons_shared=300, comparisons_disputed=60,
        annotator_agreement=0.8, annotator_agreement_low=0.75, annotator_agreement_high=0.85, annotator_alpha=0.6,
        tied=9, silent=60, left_out_repeated=3, left_out_unasked=4, annotators_people=2, answers_people=1100,
        share_people=1.0, accuracy_people=0.7, accuracy_people_low=0.67, accuracy_people_high=0.73,
    )  # fmt: skip
    section = labels(run)
    assert section is not None
    said = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    for text in (
        "1,200 answers to 700 questions were read, up to round 2; they gave 640 pairs",
        "people would have cost 600 EUR",
        "answered 300 questions and agreed in 0.80 (0.75 to 0.85)", "alpha is 0.60", "and 7 lines did not count",
        "9 questions ended in a tie, 60 have no answer",
    ):  # fmt: skip
        assert text in said
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert table.rows == [("people", "2", "1,100", "1.00", "0.70 (0.67 to 0.73)")]
    alone = labels(of(answers=3))
    assert alone is not None
    assert any(isinstance(block, Text) and "nobody knows how far they agree" in block.text for block in alone.blocks)
