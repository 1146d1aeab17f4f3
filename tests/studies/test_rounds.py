"""Rounds: who is asked what, what each round reads, and that the same call goes on. Stages only pretend."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import read_json, write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.params import read_resolved
from rlhf.labels.read import read_labels
from rlhf.labels.store import append
from studies.rounds import LATER, Waiting, measured, rounds, table
from studies.run import STAGES, Run
from tests.labels.made import label
from tests.stages.project import MICRO
from tests.studies.pretend import pretend_stages, write_outs

PROMPTS = [f"\n\nHuman: What is the capital of Zorland, number {k}?\n\nAssistant:" for k in range(4)]


def act(stage: str) -> None:
    """Stages that write what they were asked; `acquire` asks four questions of the next round, `prepare` notes what it
    would read."""
    write_outs(stage)
    labels = read_resolved(Path("params.resolved.json"))["data"]["labels"]
    if stage == "prepare" and labels["use"]:
        found = read_labels(Path(labels["path"]))
        Path("metrics/prepare.json").write_text(json.dumps({
            "prepare_labels_answers": len(found.answers), "rounds": sorted({one.round for one in found.answers}),
        }))  # fmt: skip
    if stage == "acquire":
        number = labels["round"] + 1
        texts = {"a": f" Sure, happy to help! I do not know {number}.", "b": f" Go away {number}."}
        rows = [{"prompt": prompt, "round": number} | texts for prompt in PROMPTS]
        write_jsonl(Path("artifacts/acquire/pairs.jsonl"), rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages ran, a process each."""
    from studies.runner import make

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        pretend_stages(patch, folder / "calls", act)
        list(make([Run(folder / "start", {}, STAGES)], 1))
    return folder / "start"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> tuple[Run, Any]:
    """The project's own artifacts, and what lists the stages that were called."""
    called = pretend_stages(monkeypatch, tmp_path / "calls", act)
    run = Run(shutil.copytree(made, tmp_path / "start", symlinks=True), {}, STAGES)
    return run, called


def go(work: Path, start: Run, count: int = 2, *, by: str = "simulated", **more: Any) -> list[dict[str, Any]]:
    return list(rounds(work, count, {"acquire.pairs": 4}, by=by, annotators=2, start=start, **more))


def test_each_round_reads_all_answers_so_far_and_no_later_ones(tmp_path: Path, start: tuple[Run, Any]) -> None:
    run, called = start
    work = tmp_path / "work"
    found = go(work, run)
    assert called() == ["round-0: acquire", *(f"round-{k}: {stage}" for k in (1, 2) for stage in LATER)]
    assert [one.get("prepare_labels_answers", 0) for one in found] == [0, 8, 16]  # four questions, two annotators
    assert [one["price"] for one in found] == [0, 8, 16]
    assert read_json(work / "round-2" / "metrics" / "prepare.json")["rounds"] == [1, 2]
    assert go(work, run) == found
    assert called() == []  # what is done stays done, though the file of answers has grown since round 1
    assert len(go(work, run, 3)) == 4
    assert called() == [f"round-3: {stage}" for stage in LATER]
    resolved = read_resolved(work / "round-2" / "params.resolved.json")
    assert resolved["data"]["labels"]["round"] == 2
    assert resolved["acquire"]["run"] is True
    assert (work / "round-2" / "artifacts" / "sft").resolve() == (run.folder / "artifacts" / "sft").resolve()
    assert [line.split(" | ")[0] for line in table(found).splitlines()[2:]] == ["| 0", "| 1", "| 2"]


def test_only_what_was_asked_counts(tmp_path: Path, start: tuple[Run, Any]) -> None:
    run, _ = start
    go(tmp_path / "work", run, 1)
    folder = tmp_path / "work" / "labels" / "up-to-1"
    assert sorted(path.name for path in folder.iterdir()) == ["asked", "simulated-sim-1.jsonl", "simulated-sim-2.jsonl"]
    assert len((folder / "asked" / "round-1.jsonl").read_text().splitlines()) == 4


def test_people_are_waited_for(tmp_path: Path, start: tuple[Run, Any]) -> None:
    run, called = start
    work = tmp_path / "work"
    with pytest.raises(
        Waiting, match=r"round 1: 4 of 4 questions have no answer yet; answer them with `python -m stages"
    ):
        go(work, run, by="people")
    asked = [json.loads(line) for line in (work / "round-0/artifacts/acquire/pairs.jsonl").read_text().splitlines()]
    for row in asked[:3]:
        append(work / "answers", label(**row))
    with pytest.raises(Waiting, match=r"round 1: 1 of 4 questions"):
        go(work, run, by="people")
    append(work / "answers", label(**asked[3], answer="skip"))
    called()
    with pytest.raises(Waiting, match=r"round 2: 4 of 4 questions"):
        go(work, run, by="people")
    assert called() == [f"round-1: {stage}" for stage in LATER]


def test_a_round_whose_answers_changed_is_made_again(tmp_path: Path, start: tuple[Run, Any]) -> None:
    run, called = start
    work = tmp_path / "work"
    go(work, run, 1)
    called()
    row = json.loads((work / "round-0/artifacts/acquire/pairs.jsonl").read_text().splitlines()[0])
    append(work / "answers", label(**row))
    (again,) = go(work, run, 1)[1:]
    assert again["prepare_labels_answers"] == 9
    assert called()[0] == "round-1: prepare"


def test_simulated_annotators_know_one_task(
    tmp_path: Path, start: tuple[Run, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = start
    work = tmp_path / "work"
    go(work, run, 0)
    made = Run(work / "round-0", {}, ("acquire",), start=run)
    assert measured(made, run)["evaluate_text"] == "made"
    from studies.rounds import label as ask

    resolved = read_json(work / "round-0" / "params.resolved.json")
    resolved["data"]["source"] = "files"
    (work / "round-0" / "params.resolved.json").write_text(json.dumps(resolved))
    with pytest.raises(
        UserError, match=r"data.source is 'files', and only the synthetic task has annotators of its own"
    ):
        ask(work, made, 1, by="simulated", annotators=1)


@pytest.mark.thorough
def test_two_small_rounds_of_the_real_stages(tmp_path: Path) -> None:
    """From a small run: each round's reward model learns from more pairs, SFT stays, PPO begins at it."""
    from studies.runner import make

    small = MICRO | {"base.pretrain.width": 64, "runtime.portable": False}
    run = Run(tmp_path / "start", small, STAGES)
    list(make([run], 1))
    changes = small | {"acquire.pairs": 6, "acquire.prompts": 20, "acquire.strategy": "d_optimal"}
    found = list(rounds(tmp_path / "work", 2, changes, by="simulated", annotators=2, start=run))
    assert [one.get("prepare_labels_answers", 0) for one in found] == [0, 12, 24]
    assert [one["acquire_round"] for one in found] == [1, 2, 3]
    pairs = [one["prepare_pairs_train"] for one in found]
    assert pairs[0] < pairs[1] < pairs[2] <= pairs[0] + 12
    assert len({one["prepare_pairs_test"] for one in found}) == 1  # held-out prompts are never asked about
    for one in found[1:]:
        folder = tmp_path / "work" / f"round-{one['round']}"
        assert (folder / "artifacts" / "sft").resolve() == (run.folder / "artifacts" / "sft").resolve()
        assert one["prepare_labels_left_out_unasked"] == one["prepare_labels_dropped_duplicate"] == 0
        assert one["eval_gold_sft"] == found[0]["eval_gold_sft"]
