"""Winners that stand otherwise than by a name: a scale of both signs, a flag or a score for each reply."""

from pathlib import Path
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.prepare.rows import BadRow
from tests.prepare.helpers import data_params
from tests.prepare.test_forms import read, said, user

TWO = {"prompt": "Hi", "response_1": "x", "response_2": "y"}
AB = {"prompt": "Hi", "response_a": "x", "response_b": "y"}


def winners(folder: Path, rows: list[dict[str, Any]], **more: str) -> list[str]:
    """The chosen reply of each row, or the rule that it breaks."""
    made, _ = read(folder, *({**row, "prompt": f"q{k}"} for k, row in enumerate(rows)), **more)
    return [one.rule if isinstance(one, BadRow) else one.chosen.strip() for one in made]


@pytest.mark.parametrize("name", ["preference_strength", "overall_preference"])
def test_the_scale_of_helpsteer_is_read_by_its_name(name: str, tmp_path: Path) -> None:
    rows = [TWO | {name: value} for value in (-3, -1, 0, 1, 2.0, "-2")]
    assert winners(tmp_path, rows) == ["x", "x", "tie", "y", "y", "x"]


def test_a_scale_by_another_name_is_refused_even_where_bad_rows_are_skipped(tmp_path: Path) -> None:
    rows = [TWO | {"preference": value} for value in (1, 2, -1)]
    with pytest.raises(UserError, match=r"rows\.jsonl:3: preference: .* both signs .* write A, B and tie") as caught:
        winners(tmp_path, rows)
    assert "\n" not in str(caught.value)


def test_a_number_below_0_among_names_is_a_bad_row(tmp_path: Path) -> None:
    assert winners(tmp_path, [AB | {"winner": value} for value in ("A", -1, "tie")]) == ["x", "wrong_type", "tie"]


def test_numbers_under_helpsteers_name_without_one_below_0_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not say whether"):
        winners(tmp_path, [TWO | {"overall_preference": value} for value in (1, 2)])


FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")


@pytest.mark.parametrize(
    ("names", "rows", "expected"),
    [
        (FLAGS, [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ["x", "y", "tie"]),
        (FLAGS, [(True, False, False), ("False", "True", "False")], ["x", "y"]),
        (FLAGS, [(1, 1, 0), (0, 0, 0), (1, 0, 0)], ["wrong_type", "wrong_type", "x"]),
        (FLAGS[:2], [(1, 0), (0, 1), (0, 0)], ["x", "y", "tie"]),
        (("score_A", "score_B"), [(1, 0.5), (-2, "3"), (1, 1), (None, 1)], ["x", "y", "tie", "wrong_type"]),
    ],
)
def test_a_flag_or_a_score_for_each_reply(
    names: tuple[str, ...], rows: list[tuple[object, ...]], expected: list[str], tmp_path: Path
) -> None:
    assert winners(tmp_path, [AB | dict(zip(names, row, strict=True)) for row in rows]) == expected


def test_scores_of_other_replies_are_not_taken_for_winners(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column for the winner"):
        winners(tmp_path, [TWO | {"score_0": 1, "score_1": 2}])


def test_a_winner_by_name_goes_before_flags(tmp_path: Path) -> None:
    assert winners(tmp_path, [AB | {"winner": "B", "winner_model_a": 1, "winner_model_b": 0}]) == ["y"]


def test_ranks_inside_the_replies(tmp_path: Path) -> None:
    answers = [{"answer": "x", "rank": 2.0, "model": "m"}, {"answer": "y", "rank": 1.0}]
    (made,), notes = read(tmp_path, {"prompt": "Hi", "answers": answers})
    assert not isinstance(made, BadRow)
    assert (made.chosen, made.rejected) == (" y", " x")
    assert "took the rows for rankings" in notes


def test_one_rated_reply_a_row_says_how_its_score_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "response": one, "helpfulness": k, "verbosity": 1} for k, one in enumerate("xy")]
    with pytest.raises(UserError, match=r"data\.columns\.score.*numbers are in 'helpfulness', 'verbosity'"):
        read(tmp_path, *rows)
    (made,), _ = read(tmp_path, *rows, score="helpfulness")
    assert not isinstance(made, BadRow)
    assert made.chosen == " y"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"weight": "n"}, "data.columns.weight: found 'n', but rows of the form 'unpaired' have no place for it"),
        ({"first": "prompt", "second": "n"}, "data.columns.first: found 'prompt', but rows of the form 'unpaired'"),
        ({"reply": "prompt"}, "data.columns.reply: 'prompt' is the column of prompt too"),
    ],
)
def test_a_name_in_columns_that_is_of_no_use_is_refused(columns: dict[str, str], words: str, tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": one, "label": one == "x", "n": 2} for one in "xy"]
    with pytest.raises(UserError) as caught:
        read(tmp_path, *rows, form="unpaired", **columns)
    assert words in str(caught.value)


def test_lists_of_texts_written_out_are_not_learnt(tmp_path: Path) -> None:
    row = {"prompt": '["Hi"]', "response_a": '["x"]', "response_b": "['y']", "winner": "A"}
    (made,), _ = read(tmp_path, row)
    assert isinstance(made, BadRow)
    assert "lists of texts, written out as text" in made.reason
    (kept,), _ = read(tmp_path, {"prompt": "Give a list.", "chosen": '["x"]', "rejected": '["y"]'})
    assert not isinstance(kept, BadRow)


def test_numbers_beyond_the_range_of_floats_are_bad_rows(tmp_path: Path) -> None:
    for row in (
        {"prompt": "Hi", "chosen": "x", "rejected": "y", "weight": 10**400},
        {"prompt": "Hi", "responses": ["x", "y"], "scores": [10**400, 1]},
    ):
        (made,), _ = read(tmp_path, row, form="pairs" if "chosen" in row else "ratings")
        assert isinstance(made, BadRow)
        assert made.rule == "wrong_type"
    with pytest.raises(UserError, match="label: expected one of"):
        read(tmp_path, {"prompt": "Hi", "completion": "x", "label": 10**400})


def test_an_annotator_is_the_same_as_a_number_and_as_a_float(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{k}", "chosen": "x", "rejected": "y", "annotator": name} for k, name in enumerate((7, 7.0))]
    made, _ = read(tmp_path, *rows)
    assert [one.annotator for one in made if not isinstance(one, BadRow)] == ["7", "7"]


@pytest.mark.parametrize("template", ["{{prompt}}", "Q: {{prompt}}\nA:", "{prompt}}"])
def test_a_gap_in_two_pairs_of_braces_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"a gap is \{prompt\}, in one pair of braces"):
        data_params(prompt_template=template)


def test_conversations_have_flags_too(tmp_path: Path) -> None:
    row = {"conversation_a": [user("Hi"), said("x")], "conversation_b": [user("Hi"), said("y")]}
    (made,), _ = read(tmp_path, row | {"winner_model_a": 0, "winner_model_b": 1})
    assert not isinstance(made, BadRow)
    assert (made.chosen, made.rejected) == (" y", " x")
