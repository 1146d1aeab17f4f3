"""Simulated annotators: their noise is the one that is known, their answers lie in the files that people use."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlhf.core.artifacts import write_jsonl
from rlhf.label.simulate import Person, simulate
from rlhf.labels.read import read_labels
from rlhf.labels.record import Question
from rlhf.synthetic.annotator import Annotator
from rlhf.synthetic.gold import gold_reward
from rlhf.synthetic.params import BiasParams
from stages.label import main

PROMPT = "\n\nHuman: What is the capital of Zorland?\n\nAssistant:"
GOOD, BAD = " Sure, happy to help! I do not know that.", " Go away."
BIASES: dict[str, Any] = {"length_per_10_words": 0.0, "flattery": 0.0, "keyword": "certainly", "keyword_logit": 0.0}


def questions(count: int, good: str = GOOD, bad: str = BAD) -> list[Question]:
    """Half of them with the better reply as B."""
    return [
        Question(prompt=PROMPT + " " * k, a=good if k % 2 else bad, b=bad if k % 2 else good, policy_a="x", round=2)
        for k in range(count)
    ]


def person(name: str = "sim-1", temperature: float = 1.0, tie_band: float = 0.0, **biases: Any) -> Person:
    return Person(name, Annotator(temperature, BiasParams(**(BIASES | biases))), tie_band)


def share_of_good(asked: list[Question], who: Person) -> float:
    return sum(who.answer(one, 0) == ("A" if one.a == GOOD else "B") for one in asked) / len(asked)


def test_the_noise_is_the_known_one() -> None:
    lead = gold_reward(PROMPT, GOOD) - gold_reward(PROMPT, BAD)
    assert lead > 0.5
    temperature = lead / math.log(3)  # right in three of four
    assert share_of_good(questions(1000), person(temperature=temperature)) == pytest.approx(0.75, abs=0.05)  # 3.6 sigma
    assert share_of_good(questions(200), person(temperature=0.01)) == 1.0


def test_biases_and_ties_are_plantable() -> None:
    lead = gold_reward(PROMPT, GOOD) - gold_reward(PROMPT, BAD)
    words = len(GOOD.split()) - len(BAD.split())
    against = person(temperature=1.0, length_per_10_words=-10 * (lead + math.log(3)) / words)  # logit -log 3
    assert share_of_good(questions(1000), against) == pytest.approx(0.25, abs=0.05)
    answers = {person(temperature=1e9, tie_band=0.1).answer(one, 0) for one in questions(10)}
    assert answers == {"tie"}


def test_answers_go_on_where_they_were_and_do_not_depend_on_the_order(tmp_path: Path) -> None:
    asked, people = questions(12), [person("ann", 1.0), person("ben", 1.0)]
    assert simulate(asked[:5], tmp_path / "one", people, seed=3) == 10
    assert simulate(asked, tmp_path / "one", people, seed=3) == 14
    assert simulate(asked, tmp_path / "one", people, seed=3) == 0
    assert simulate(asked[::-1], tmp_path / "two", people, seed=3) == 24
    one, two = (
        {(label.annotator, label.question.id): label for label in read_labels(tmp_path / name).answers}
        for name in ("one", "two")
    )
    assert one == two
    assert {label.kind for label in one.values()} == {"simulated"}
    assert {label.round for label in one.values()} == {2}
    assert {label.first for label in one.values()} == {"A", "B"}
    both = [[one[name, asked_.id].answer for asked_ in asked] for name in ("ann", "ben")]
    assert both[0] != both[1]  # each has draws of their own


def synthetic(tmp_path: Path, **data: Any) -> None:
    task = {"prompts": 300, "pairs_per_prompt": 1, "two_turn_share": 0.1, "annotator_temperature": 0.6}
    task |= {"ood_prompts": 0, "corpus_documents": 3000, "biases": BIASES}
    resolved = {"data": {"source": "synthetic", "synthetic": task} | data, "seed": 0}
    (tmp_path / "params.resolved.json").write_text(json.dumps(resolved))
    write_jsonl(tmp_path / "pairs.jsonl", [one.model_dump() for one in questions(4)])


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["simulate", "--pairs", "pairs.jsonl", "--labels", "labels", "--annotators", "3"]
    done = CliRunner().invoke(main, [*arguments, "--temperature", "0.01"])
    assert done.output == "labels: 12 answers by 3 simulated annotators\n"
    assert len(read_labels(tmp_path / "labels").answers) == 12
    synthetic(tmp_path, source="files")
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "data.source is 'files'; only the synthetic task has a gold" in done.output
    synthetic(tmp_path)
    done = CliRunner().invoke(main, [*arguments, "--flattery", "nan"])
    assert done.exit_code == 1
    assert "label simulate: data.synthetic.biases.flattery: Input should be a finite number" in done.output
