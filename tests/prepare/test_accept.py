"""What is said at the first bad row: whether skipping helps, what the rows look like, and what would read them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.prepare.build import BaseChoice, prepare
from rlhf.prepare.rows import BAD_ROW_RULES
from rlhf.prepare.write import write_prepared
from tests.prepare.helpers import data_params, hh_row, pair_rows, write_lines

SCRATCH = BaseChoice("pretrain", None, None, None, 4096)


def refused(path: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        prepare(data_params(path=str(path), **changes), SCRATCH, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def turns(reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": reply}]


OTHER: dict[str, tuple[str, dict[str, Any], str]] = {  # the form that is set, the rows, what would read them
    "messages": ("pairs", {"prompt": "Hi", "chosen": turns("a"), "rejected": turns("b")}, "data.format=messages"),
    "labels": ("pairs", {"prompt": "Hi", "completion": "a", "label": True}, "data.format=unpaired"),
    "winner": ("hh", {"prompt": "Hi", "response_a": "a", "response_b": "b", "winner": "A"}, "data.format=winner"),
    "pairs": ("hh", pair_rows(1)[0], "data.format=pairs"),
    "dialogues": ("messages", hh_row(), "data.format=hh"),
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
def test_rows_of_another_form_are_not_to_be_skipped(name: str, on_bad_row: str, tmp_path: Path) -> None:
    form, row, expected = OTHER[name]
    said = refused(write_lines(tmp_path / "a.jsonl", [row] * 5), format=form, on_bad_row=on_bad_row)
    assert "all 5 rows break this rule, so skipping them is no help" in said
    assert f"They would be read with {expected} (" in said
    assert "on_bad_row" not in said
    assert "Their columns: " in said


def test_where_most_rows_break_a_rule_their_share_is_said(tmp_path: Path) -> None:
    rows = [*pair_rows(2), *({"prompt": "Hi", "chosen": "same", "rejected": "same"} for _ in range(4))]
    said = refused(write_lines(tmp_path / "a.jsonl", rows))
    assert "a.jsonl:3: chosen and rejected are the same reply (rule tie); 4 of 6 rows break this rule" in said
    assert "name different columns" in said


def test_where_few_do_skipping_is_offered_with_all_counts(tmp_path: Path) -> None:
    bad = [{"prompt": "Hi", "chosen": None, "rejected": "b"}, {"prompt": "Hi", "chosen": "", "rejected": "b"}]
    said = refused(write_lines(tmp_path / "a.jsonl", [*pair_rows(5), *bad, *pair_rows(5, start=5)]))
    assert "data.on_bad_row=skip sets such rows aside and counts them" in said
    assert said.endswith("(here 2 of 12 rows: 1 null_reply, 1 empty_reply)")


def test_a_file_of_a_folder_that_has_other_columns_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", pair_rows(30))
    write_lines(tmp_path / "b.jsonl", [{"question": "Hi", "chosen": "a", "rejected": "b"}] * 4)
    said = refused(tmp_path, format="auto")
    assert "b.jsonl:1: no column 'prompt'" in said
    assert "all 4 rows of this file break this rule" in said
    assert "'question' (text)" in said


def test_nothing_but_bad_rows_of_several_kinds(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "chosen": "", "rejected": "b"}, {"prompt": "", "chosen": "a", "rejected": "b"}, {"x": 1}]
    said = refused(write_lines(tmp_path / "a.jsonl", rows), format="pairs", on_bad_row="skip")
    assert said.endswith("none of the 3 rows can be used: 1 empty_reply, 1 empty_prompt, 1 missing_column")


def test_each_kind_of_reply_that_says_nothing_has_its_count(tmp_path: Path) -> None:
    replies = {"null_reply": None, "nan_reply": float("nan"), "empty_reply": "", "blank_reply": " \n\u00a0",
               "invisible_reply": "\u200b\ufeff", "tie": "b\u200d "}  # fmt: skip
    rows = [{"prompt": "Hi", "chosen": reply, "rejected": "b"} for reply in replies.values()]
    path = write_lines(tmp_path / "a.jsonl", [*pair_rows(40), *rows])
    prepared = prepare(data_params(path=str(path), on_bad_row="skip"), SCRATCH, seed=0)
    assert Counter(row.rule for row in prepared.ledger.set_aside) == Counter(list(replies))
    for rule in BAD_ROW_RULES:
        assert prepared.metrics[f"prepare_set_aside_{rule}"] == (1 if rule in replies else 0)


def test_weight_and_margin_are_written_only_where_the_data_have_them(tmp_path: Path) -> None:
    rows = pair_rows(60)
    plain = write_lines(tmp_path / "plain.jsonl", rows)
    rich = write_lines(tmp_path / "rich.jsonl", [row | {"weight": 0.5, "margin": 1} for row in rows])
    keys = []
    for path in (plain, rich):
        at = Layout(tmp_path / path.stem)
        write_prepared(prepare(data_params(path=str(path), format="auto"), SCRATCH, seed=0), at)
        written = read_jsonl(at.pairs / "train.jsonl")
        keys.append(set(written[0]))
    assert keys[0] == {"id", "prompt", "chosen", "rejected", "origin", "kind", "turns"}
    assert keys[1] - keys[0] == {"weight", "margin"}
    assert {(row["weight"], row["margin"]) for row in written} == {(0.5, 1.0)}


def test_the_first_bad_row_is_told_whatever_follows(tmp_path: Path) -> None:
    marked = {"prompt": "Hi", "chosen": "yes\n\nHuman: more", "rejected": "no"}
    path = write_lines(tmp_path / "a.jsonl", [*pair_rows(2), {"prompt": "Hi"}, *pair_rows(2, start=2), marked])
    said = refused(path, on_turn_marker="stop")
    assert f"{path}:3: no column 'chosen'" in said
    assert "the first 5 rows" in said
    assert f"{path}:6: a reply holds" in refused(path, on_turn_marker="stop", on_bad_row="skip")


def test_where_all_rows_are_dropped_no_tokenizer_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise AssertionError("a tokenizer was trained")

    monkeypatch.setattr("rlhf.prepare.build.train_tokenizer", none)
    rows = [{"prompt": f"q{k}", "chosen": "yes\n\nHuman: more", "rejected": "no"} for k in range(5)]
    said = refused(write_lines(tmp_path / "a.jsonl", rows))
    assert "nothing is left: 5 rows read, 0 kept; dropped: 5 turn_marker" in said
    assert "data.on_turn_marker=cut" in said
