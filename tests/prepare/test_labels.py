"""Answers to the project's own questions become pairs: by hand, on few questions."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, read_jsonl, sha256_tree
from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.labels.record import Label
from rlhf.labels.store import append
from rlhf.models.text.control import SIGN
from rlhf.prepare.build import BaseChoice, Prepared, prepare, read_from
from rlhf.prepare.labels import labelled_pairs
from rlhf.prepare.rows import Pair
from rlhf.prepare.templates import Written
from rlhf.prepare.write import write_prepared
from rlhf.prepare.written import Writer
from tests.labels.made import label
from tests.prepare.helpers import ASSISTANT, HUMAN, data_params, pair_rows, write_lines

SCRATCH = BaseChoice("pretrain", None, None, None, 4096)
KINDS = ["people", "model", "constitution", "simulated"]


def asked(number: int, **changes: Any) -> Label:
    """An answer about a prompt of the source, as the page shows it."""
    values = {"prompt": f"{HUMAN} Question {number}?{ASSISTANT}", "a": f" First {number}.", "b": f" Second {number}."}
    return label(**(values | changes))


def ready(tmp_path: Path, *answers: Label, rows: int = 60, **changes: Any) -> Prepared:
    path = write_lines(tmp_path / "pairs.jsonl", pair_rows(rows))
    (tmp_path / "labels").mkdir(exist_ok=True)
    for one in answers:
        append(tmp_path / "labels", one)
    labels = {"use": True, "path": str(tmp_path / "labels"), "round": 0, "kinds": KINDS}
    data = {name: value for name, value in changes.items() if name not in labels}
    labels |= {name: value for name, value in changes.items() if name in labels}
    return prepare(data_params(path=str(path), labels=labels, **data), SCRATCH, seed=0)


def added(prepared: Prepared) -> dict[tuple[str, str, str], tuple[float, str | None]]:
    """(split, chosen, rejected) -> (target, who) of pairs that answers gave."""
    return {
        (split, pair.chosen, pair.rejected): (pair.target, pair.labelled_by)
        for split, pairs in prepared.splits.items()
        for pair in pairs
        if pair.labelled_by
    }


def split_of(prepared: Prepared) -> dict[int, str]:
    """Number of a question of the source -> its split."""
    found = {}
    for split, pairs in prepared.splits.items():
        for pair in pairs:
            found[int(pair.prompt.split("Question ")[1].split("?")[0])] = split
    return found


def test_answers_are_averaged_and_the_winner_is_chosen(tmp_path: Path) -> None:
    where = split_of(ready(tmp_path))
    in_train = [number for number, split in where.items() if split == "train"]
    one, two, three, four, five = in_train[:5]
    prepared = ready(
        tmp_path,
        asked(one), asked(one, annotator="ben"), asked(one, annotator="cat", answer="B"),  # 2 of 3 for A
        asked(two, answer="B"), asked(two, annotator="ben", answer="tie"),  # 3 of 4 for B
        asked(three, answer="tie"),  # nobody is ahead
        asked(four, answer="both_bad"), asked(four, annotator="ben", answer="skip"),  # says nothing
        asked(five, kind="model", annotator="m", soft=0.8), asked(five, kind="people"),  # .9, of two kinds
    )  # fmt: skip
    assert added(prepared) == {
        ("train", f" First {one}.", f" Second {one}."): (pytest.approx(2 / 3), "people"),
        ("train", f" Second {two}.", f" First {two}."): (pytest.approx(0.75), "people"),
        ("train", f" First {three}.", f" Second {three}."): (0.5, "people"),
        ("train", f" First {five}.", f" Second {five}."): (pytest.approx(0.9), "mixed"),
    }
    metrics = prepared.metrics
    told = {name: metrics[f"prepare_labels_{name}"] for name in (
        "answers", "questions", "tied", "silent", "answered_a", "answered_b", "answered_tie", "answered_both_bad",
        "answered_skip", "pairs", "pairs_train", "answers_people", "answers_model", "annotators_people",
    )}  # fmt: skip
    assert told == {
        "answers": 10, "questions": 5, "tied": 1, "silent": 1, "answered_a": 4, "answered_b": 2, "answered_tie": 2,
        "answered_both_bad": 1, "answered_skip": 1, "pairs": 4, "pairs_train": 4, "answers_people": 7,
        "answers_model": 1, "annotators_people": 3,
    }  # fmt: skip
    assert metrics["prepare_labels_unanimity"] == pytest.approx((2 / 3 + 0.75 + 0.5 + 0.9) / 4)
    assert metrics["prepare_labels_share_people"] == pytest.approx(7 / 8)


def test_answers_fall_on_the_side_of_their_prompt_and_ties_measure_nothing(tmp_path: Path) -> None:
    where = split_of(ready(tmp_path))
    forms = ["{h} Question {n}?{a}", "Question {n}?"]  # as models read it, and bare
    answers = []
    for number in range(60):
        prompt = forms[number % 2].format(h=HUMAN, a=ASSISTANT, n=number)
        answers.append(asked(number, prompt=prompt, answer="tie" if number >= 40 else "A"))
    prepared = ready(tmp_path, *answers)
    found = {int(chosen.split()[1].rstrip(".")): split for split, chosen, _ in added(prepared)}
    assert found == {n: split for n, split in where.items() if n < 40 or split == "train"}
    assert prepared.metrics["prepare_prompts_on_two_sides"] == 0
    held_out = sum(split != "train" for number, split in where.items() if number >= 40)
    assert prepared.metrics["prepare_labels_dropped_held_out_tie"] == held_out > 0
    assert len({pair.prompt for pairs in prepared.splits.values() for pair in pairs}) == 60


def test_rounds_kinds_and_questions_that_were_asked(tmp_path: Path) -> None:
    answers = [
        asked(1), asked(2, round=1), asked(3, round=2), asked(4, kind="simulated", annotator="s"), asked(5, b=" Nay."),
    ]  # fmt: skip
    found = ready(tmp_path, *answers, round=1, kinds=["people"])
    assert {chosen for _, chosen, _ in added(found)} == {" First 1.", " First 2.", " First 5."}
    assert found.metrics["prepare_labels_left_out_later_round"] == 1
    assert found.metrics["prepare_labels_left_out_other_kind"] == 1
    questions = [
        {"prompt": one.prompt, "a": one.a, "b": one.b, "policy_a": "sft", "more": 3}
        for one in answers
        if one.b != " Nay."
    ]
    write_lines(tmp_path / "labels" / "asked" / "round-1.jsonl", questions)
    found = ready(tmp_path, round=1)
    assert {chosen for _, chosen, _ in added(found)} == {" First 1.", " First 2.", " First 4."}
    assert found.metrics["prepare_labels_left_out_unasked"] == 1
    write_lines(tmp_path / "labels" / "asked" / "round-2.jsonl", [{"prompt": "", "a": "x"}])
    with pytest.raises(UserError, match=r"round-2.jsonl:1: prompt: ") as caught:
        ready(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_source_stays_as_it_was(tmp_path: Path) -> None:
    off = ready(tmp_path, *(asked(number) for number in range(10)), use=False)
    on = ready(tmp_path)
    for split, pairs in off.splits.items():
        assert on.splits[split][: len(pairs)] == pairs
    assert on.corpus == off.corpus
    assert not [name for name in off.metrics if "labels" in name]
    for name, prepared in (("off", off), ("none", ready(tmp_path, use=False, path="nowhere"))):
        write_prepared(prepared, Layout(tmp_path / name))
    assert sha256_tree(tmp_path / "off") == sha256_tree(tmp_path / "none")


def test_what_is_written(tmp_path: Path) -> None:
    both = [asked(n, answer="A" if n % 3 else "B") for n in range(30)] + [asked(n, annotator="ben") for n in range(30)]
    prepared = ready(tmp_path, *both)
    layout = Layout(tmp_path)
    write_prepared(prepared, layout)
    rows = [row for split in ("train", "validation") for row in read_jsonl(layout.pairs / f"{split}.jsonl")]
    ours = [row for row in rows if "labelled_by" in row]
    assert {row["labelled_by"] for row in ours} == {"people"}
    assert {row.get("target", 1.0) for row in ours} == {1.0, 0.5}
    assert all(row["origin"].startswith(str(tmp_path / "labels" / "people-")) for row in ours)
    (two,) = read_json(layout.pairs / "label_annotators.json")
    # ben says A always, ann A in two thirds: kappa is 0, since ben's answers tell nothing
    assert (two["first"], two["second"], two["comparisons"]) == ("people-ann", "people-ben", 30)
    assert two["kappa"] == 0
    assert two["agreement"] == pytest.approx(2 / 3, abs=1e-5)
    assert len(read_jsonl(layout.pairs / "label_disagreements.jsonl")) == 10
    assert prepared.metrics["prepare_labels_annotator_agreement"] == pytest.approx(2 / 3)
    assert prepared.metrics["prepare_labels_annotator_kappa"] == 0
    # Krippendorff by hand: 60 values, 50 A and 10 B, 10 units apart: 1 - 59 x 20 / (2 x 50 x 10)
    assert prepared.metrics["prepare_labels_annotator_alpha"] == pytest.approx(1 - 59 * 20 / 1000)


def test_an_empty_folder_is_no_answers_yet(tmp_path: Path) -> None:
    prepared = ready(tmp_path)
    assert added(prepared) == {}
    assert (prepared.metrics["prepare_labels_answers"], prepared.metrics["prepare_labels_pairs"]) == (0, 0)
    assert "data.labels: 0 answers" in prepared.notes


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (asked(1, a=""), r"people-ann.jsonl:1: .*empty.*\(rule empty_reply\)"),
        (asked(1, a="Same.", b=" Same. "), r"people-ann.jsonl:1: .*same reply .*\(rule tie\)"),
        (asked(1, prompt=" "), r"people-ann.jsonl:1: .*\(rule empty_prompt\)"),
        (asked(1, b=" \u200b"), r"people-ann.jsonl:1: b: .*\(rule invisible_reply\)"),
        (asked(1, a="\ud800"), r"people-ann.jsonl:1: a: .*half of a surrogate pair \(rule not_utf8\)"),
    ],
)
def test_bad_questions_stop_or_are_set_aside(tmp_path: Path, answer: Label, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ready(tmp_path, answer, asked(2))
    assert "\n" not in str(caught.value)
    prepared = ready(tmp_path, on_bad_row="skip")
    assert prepared.metrics["prepare_labels_set_aside"] == 1
    assert len(added(prepared)) == 1


def test_filters_count_for_answers_too_but_max_pairs_is_about_the_source(tmp_path: Path) -> None:
    long = asked(2, a=" long" * 400)
    prepared = ready(tmp_path, asked(1), long, asked(3, a=" Yes.\n\nHuman: and"), max_tokens=300, max_pairs=50)
    assert len(added(prepared)) == 1
    assert prepared.metrics["prepare_labels_dropped_long_chosen"] == 1
    assert prepared.metrics["prepare_labels_dropped_turn_marker"] == 1
    assert prepared.metrics["prepare_rows_kept"] == 50


def test_an_edited_line_and_files_that_are_not_read(tmp_path: Path) -> None:
    prepared = ready(tmp_path, asked(1))
    path = tmp_path / "labels" / "people-ann.jsonl"
    (tmp_path / "labels" / "more.json").write_text("[]")
    (tmp_path / "labels" / "guidelines.md").write_text("Be fair.")
    prepared = ready(tmp_path)
    assert "data.labels.path: files that are not read: more.json" in prepared.notes
    path.write_text(json.dumps(json.loads(path.read_text()) | {"answer": "B"}) + "\n")
    with pytest.raises(UserError, match=r"people-ann.jsonl:1: edited since it was written"):
        ready(tmp_path)
    with pytest.raises(UserError, match=r"data.labels: .*nowhere: no such file or folder"):
        ready(tmp_path, path=str(tmp_path / "nowhere"))


def test_a_constitution_that_does_harm_is_refused_and_an_unjudged_one_is_told(tmp_path: Path) -> None:
    where = split_of(ready(tmp_path))
    number = next(number for number, split in where.items() if split == "train")
    answer = asked(number, annotator="sft-3", kind="constitution", answer="B")
    ready(tmp_path, answer)
    file = tmp_path / "labels" / "constitution-sft-3.json"
    assert [note for note in ready(tmp_path).notes if "constitution-sft-3: nobody has judged" in note]
    for verdict in ("helps", "unclear"):
        file.write_text(json.dumps({"labels_constitution_verdict": verdict}))
        prepared = ready(tmp_path)
        assert len(added(prepared)) == 1
        assert not [note for note in prepared.notes if "constitution" in note]
    file.write_text(json.dumps({"labels_constitution_verdict": "harm"}))
    with pytest.raises(UserError, match=r"constitution-sft-3\.json: the verdict is harm: .*data\.labels\.kinds"):
        ready(tmp_path)
    assert added(ready(tmp_path, kinds=["people"])) == {}  # whoever leaves it out reads on


@pytest.mark.parametrize(
    ("text", "found"),
    [("[]", r"found no object but \[\]"), ("{}", "found null"), ("3", "found no object but 3"),
     ('{"labels_constitution_verdict": "fine"}', 'found "fine"'),
     ('{"labels_constitution_verdict": ["harm"]}', 'found \\["harm"\\]')],
)  # fmt: skip
def test_a_verdict_that_is_none_is_one_line(tmp_path: Path, text: str, found: str) -> None:
    where = split_of(ready(tmp_path))
    number = next(number for number, split in where.items() if split == "train")
    ready(tmp_path, asked(number, annotator="sft-3", kind="constitution", answer="B"))
    file = tmp_path / "labels" / "constitution-sft-3.json"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"sft-3\.json: labels_constitution_verdict must be one of .*{found}"):
        ready(tmp_path)


def test_accuracy_by_kind_is_against_the_truth(tmp_path: Path) -> None:
    """Three of four people and one of two machines are right; who sees a tie is not counted."""
    made = prepare(data_params(source="synthetic", max_tokens=500), SCRATCH, seed=0)
    prompts = list(dict.fromkeys(pair.prompt for pair in made.splits["train"]))
    good, bad = " Sure, happy to help! I do not know. Anything else?", " zxq zxq zxq zxq"
    said = [("people", "A"), ("people", "A"), ("people", "A"), ("people", "B"), ("model", "A"), ("model", "B")]
    for number, (kind, answer) in enumerate(said):
        append(tmp_path, label(prompt=prompts[number], a=good, b=bad, kind=kind, answer=answer))
    append(tmp_path, label(prompt=prompts[6], a=good, b=bad, answer="tie"))
    labels = {"use": True, "path": str(tmp_path), "round": 0, "kinds": KINDS}
    data = data_params(source="synthetic", max_tokens=500, labels=labels)
    metrics = prepare(data, SCRATCH, seed=0).metrics
    assert metrics["prepare_labels_accuracy_people"] == 0.75
    assert metrics["prepare_labels_accuracy_model"] == 0.5
    assert "prepare_labels_accuracy_simulated" not in metrics
    assert metrics["prepare_noise_ceiling"] is not None
    assert Path(tmp_path) in read_from(data, SCRATCH)


class Strict:
    """A template that writes replies, and no prompt: those of the source are written already."""

    def prompt(self, given: object) -> Written:
        raise AssertionError(f"{given!r} is written again")

    def reply(self, prompt: Written, text: str) -> str:
        return f"<{prompt.turns[0].content}>{text.strip()}</s>"

    def markers(self, prompt: Written) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize("shown", ["User: What is </s>?", "<|user|>What is </s>?<|assistant|>"])
def test_a_prompt_that_was_shown_as_turns_or_without_signs_is_found_again(tmp_path: Path, shown: str) -> None:
    written = f"<|user|>What is <{SIGN}/s>?<|assistant|>"
    turns = (Turn("user", "What is </s>?"),)
    source = Pair(written, "yes</s>", "no</s>", "x:1", "a kind", 1, conversation=turns)
    append(tmp_path, label(prompt=shown, a="Good", b="Bad"))
    data = data_params(labels={"use": True, "path": str(tmp_path), "round": 0, "kinds": KINDS})
    found = labelled_pairs(data, [source], Writer(Strict(), ("</s>",), ("</s>",), "skip"))
    assert found is not None
    (pair,) = found.pairs
    assert (pair.prompt, pair.conversation, pair.kind, pair.turns) == (written, turns, "a kind", 1)
    assert (pair.chosen, pair.rejected) == ("<What is </s>?>Good</s>", "<What is </s>?>Bad</s>")
