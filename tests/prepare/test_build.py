"""The stage as a whole: nothing is lost, nothing leaks, bad input stops it in one line."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf.core.artifacts import read_json, read_jsonl, sha256_tree
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.yaml import read_yaml
from rlhf.models.text.tokens import encode_prompt
from rlhf.prepare.build import BaseChoice, Prepared, prepare
from rlhf.prepare.lengths import PromptRoom
from rlhf.prepare.row_counts import FILTERS
from rlhf.prepare.rows import BAD_ROW_RULES
from rlhf.prepare.write import write_prepared
from rlhf.synthetic.gold import gold_reward
from tests.prepare.helpers import data_params, hh_row, pair_rows, write_lines

SCRATCH = BaseChoice("pretrain", None, None, None, 4096)

GOOD = {"prompt": "Question?", "chosen": "Yes.", "rejected": "No."}
# What real preference files hold beside good rows.
STRANGE: list[Any] = [
    GOOD | {"chosen": True},
    GOOD | {"rejected": None},
    GOOD | {"chosen": 7},
    GOOD | {"prompt": ""},
    GOOD | {"chosen": "  "},
    GOOD | {"rejected": "Yes."},
    {"prompt": "Question?", "chosen": "Yes."},
    [1, 2],
    "{not json",
    b'{"prompt": "\xff\xfe"}',
    GOOD | {"chosen": "\ud800"},
    GOOD,
    GOOD,
    GOOD | {"prompt": "Long? " * 80},
]


def pairs_of(prepared: Prepared) -> list[tuple[str, str, str]]:
    return [(p.prompt, p.chosen, p.rejected) for pairs in prepared.splits.values() for p in pairs]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.sampled_from(range(len(STRANGE))), max_size=20), max_pairs=st.sampled_from([0, 25]))
def test_counts_add_up_whatever_the_file_holds(rows: list[int], max_pairs: int, tmp_path: Path) -> None:
    lines = [*pair_rows(40), *(STRANGE[index] for index in rows)]
    path = write_lines(tmp_path / "a.jsonl", lines)
    data = data_params(path=str(path), on_bad_row="skip", max_tokens=150, max_pairs=max_pairs)
    prepared = prepare(data, SCRATCH, seed=0)
    metrics = prepared.metrics
    kept = len(pairs_of(prepared))
    dropped = sum(int(metrics[f"prepare_dropped_{name}"] or 0) for name in FILTERS)
    aside = sum(int(metrics[f"prepare_set_aside_{rule}"] or 0) for rule in BAD_ROW_RULES)
    assert metrics["prepare_rows_read"] == len(lines) == kept + dropped + aside
    assert (metrics["prepare_rows_kept"], metrics["prepare_rows_set_aside"]) == (kept, aside)
    assert len(prepared.ledger.set_aside) == aside


def test_each_strange_row_is_counted_under_its_rule(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*pair_rows(40), *STRANGE])
    prepared = prepare(data_params(path=str(path), on_bad_row="skip", max_tokens=150), SCRATCH, seed=0)
    assert Counter(row.rule for row in prepared.ledger.set_aside) == Counter(
        wrong_type=2, null_reply=1, empty_prompt=1, blank_reply=1, tie=1, missing_column=1, not_json=2, not_utf8=2
    )
    assert prepared.ledger.dropped == Counter(duplicate=1, long_chosen=1)
    write_prepared(prepared, Layout(tmp_path))
    aside = read_jsonl(Layout(tmp_path).pairs / "set_aside.jsonl")
    assert [row["origin"] for row in aside] == [f"{path}:{line}" for line in range(41, 52)]
    assert aside[0]["row"] == GOOD | {"chosen": True}


@pytest.mark.parametrize("row", STRANGE[:11])
def test_the_first_bad_row_stops_the_stage_by_default(row: object, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*pair_rows(3), row, *pair_rows(3, start=3)])
    with pytest.raises(UserError, match=r"a\.jsonl:4: .*\(rule \w+\); data\.on_bad_row=skip") as caught:
        prepare(data_params(path=str(path)), SCRATCH, seed=0)
    assert "\n" not in str(caught.value)


def test_a_dialogue_without_assistant_stops_with_its_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [hh_row(), hh_row() | {"chosen": "\n\nHuman: hi"}])
    with pytest.raises(UserError, match=r'a\.jsonl:2: chosen: no "\\n\\nAssistant:" in it \(rule no_assistant\)'):
        prepare(data_params(path=str(path), format="hh"), SCRATCH, seed=0)


def test_nothing_left_is_an_error_with_the_counts(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", pair_rows(10))
    with pytest.raises(UserError, match="nothing is left: 10 rows read, 0 kept; dropped: 10 short_chosen"):
        prepare(data_params(path=str(path), min_tokens=1000), SCRATCH, seed=0)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [])
    with pytest.raises(UserError, match="nothing is left: 0 rows read"):
        prepare(data_params(path=str(path)), SCRATCH, seed=0)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", pair_rows(1))
    with pytest.raises(UserError, match=r"no pair falls into the \w+ split: 1 rows read, 1 kept"):
        prepare(data_params(path=str(path)), SCRATCH, seed=0)


def test_no_prompt_on_two_sides(tmp_path: Path) -> None:
    rows = [
        {"prompt": spelt(f"Question {i}?"), "chosen": f"{n} good", "rejected": f"{n} bad"}
        for i in range(60)
        for n, spelt in enumerate((str, str.upper, lambda text: f"  {text}  "))
    ]
    path = write_lines(tmp_path / "a.jsonl", rows)
    prepared = prepare(data_params(path=str(path)), SCRATCH, seed=0)
    sides = [{p.prompt.casefold() for p in pairs} for pairs in prepared.splits.values()]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert prepared.metrics["prepare_prompts"] == 60
    assert prepared.metrics["prepare_prompts_on_two_sides"] == 0


def test_the_corpus_of_a_scratch_model_holds_no_held_out_prompt(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", pair_rows(60))
    prepared = prepare(data_params(path=str(path)), SCRATCH, seed=0)
    assert len(prepared.corpus) == 2 * len(prepared.splits["train"])
    for pair in prepared.splits["test"] + prepared.splits["validation"]:
        assert not [text for text in prepared.corpus if pair.prompt in text]


def test_max_pairs_draws_by_the_seed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", pair_rows(200))
    drawn = [pairs_of(prepare(data_params(path=str(path), max_pairs=50), SCRATCH, seed=s)) for s in (0, 0, 1)]
    assert [len(pairs) for pairs in drawn] == [50, 50, 50]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_is_written_for_the_synthetic_task(tmp_path: Path) -> None:
    prepared = prepare(data_params(source="synthetic"), SCRATCH, seed=0)
    layout = Layout(tmp_path)
    write_prepared(prepared, layout)
    task = read_json(layout.pairs / "task.json")
    assert task["gold"] == "synthetic"
    assert 0.6 < task["noise_ceiling"] < 1
    for split in ("train", "validation", "test"):
        rows = read_jsonl(layout.pairs / f"{split}.jsonl")
        assert [row["id"] for row in rows] == [f"{split}-{i:05d}" for i in range(len(rows))]
        assert set(rows[0]) == {"id", "prompt", "chosen", "rejected", "origin", "kind", "turns"}
        for row in rows:
            assert row["prompt"].endswith("\n\nAssistant:")
            assert isinstance(gold_reward(row["prompt"], row["chosen"]), float)
    assert len(read_jsonl(layout.pairs / "ood.jsonl")) == 5
    assert len(read_jsonl(layout.corpus)) == 200
    assert json.loads((tmp_path / "metrics" / "prepare.json").read_text())["prepare_rows_kept"] == 80


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepared = prepare(data_params(source="synthetic"), SCRATCH, seed=5)
        write_prepared(prepared, Layout(tmp_path / name))
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def test_sequences_longer_than_the_base_model_are_refused_before_reading(tiny_model_dir: Path) -> None:
    base = BaseChoice("path", str(tiny_model_dir), None, None, 0)
    with pytest.raises(UserError, match=r"data\.max_tokens: found 100000; at most \d+ is allowed"):
        prepare(data_params(path="not read", max_tokens=100_000), base, seed=0)


def test_a_base_model_without_weights_is_refused_before_reading(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no weights"):
        prepare(data_params(path="not read"), BaseChoice("path", str(tmp_path), None, None, 0), seed=0)


def test_a_prompt_without_room_for_a_response_is_named_by_its_row(tmp_path: Path) -> None:
    """Here and not at PPO, after everything else was trained."""
    rows = [*pair_rows(40), {"prompt": "so " * 60, "chosen": "Yes.", "rejected": "No."}]
    path, base = write_lines(tmp_path / "a.jsonl", rows), BaseChoice("pretrain", None, None, None, 300)
    data, asked = data_params(path=str(path), max_tokens=290), ("train", "validation", "test")
    found = read_lengths(prepare(data, base, seed=0, room=PromptRoom(None, 10, asked)))
    longest = max(found)
    prepare(data, base, seed=0, room=PromptRoom(None, 300 - longest, asked))
    with pytest.raises(UserError, match=rf"^ppo.max_prompt_tokens: found 0 .* {path}:41 .* at most {longest - 1} is"):
        prepare(data, base, seed=0, room=PromptRoom(None, 301 - longest, asked))
    prepare(data, base, seed=0, room=PromptRoom(longest - 1, 301 - longest, asked))


def read_lengths(prepared: Prepared) -> list[int]:
    return [len(encode_prompt(prepared.tokenizer, prompt)) for prompt, _, _ in pairs_of(prepared)]


PROFILES = Path(__file__).resolve().parents[2] / "profiles"


@pytest.mark.parametrize("profile", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_own_files_are_read_under_every_profile(profile: str, tmp_path: Path) -> None:
    """A profile that named the columns of its own data would leave a user no way to unname them: null takes its."""
    named = read_yaml(PROFILES / f"{profile}.yaml")["data"]["columns"]
    assert set(named.values()) == {None}
    hh = write_lines(tmp_path / "hh.jsonl", [hh_row(f"Question {number}?") for number in range(40)])
    yes, no = ({"from": "gpt", "value": value} for value in ("Yes.", "No."))
    turns = [
        {"conversations": [{"from": "human", "value": f"Question {number}?"}], "chosen": yes, "rejected": no}
        for number in range(40)
    ]
    shared = write_lines(tmp_path / "turns.jsonl", turns)
    for path, form in ((hh, "hh"), (hh, "auto"), (shared, "auto"), (shared, "conversations")):
        data = data_params(path=str(path), format=form, columns=data_params().columns.model_dump() | named)
        assert len(pairs_of(prepare(data, SCRATCH, seed=0))) == 40
