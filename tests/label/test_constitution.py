"""A constitution: what is read of it, who writes and judges, and what a kill, a bad writer or a harmful one leaves."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from rlhf.core.artifacts import write_json, write_jsonl
from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.stats import Interval
from rlhf.label.constitution import Setting, read_tasks, revise
from rlhf.label.principles import DEFAULT, FIELDS, Constitution, Principle, read_constitution
from rlhf.label.revisions import Finding, Judge, lines, measure, verdict
from rlhf.label.writers import Item, Task
from rlhf.labels.read import read_labels
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.encoder import SentenceEncoder
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.referee import save_referee
from stages.label import main
from tests.evaluate.conftest import build
from tests.judge_server import Answer, JudgeServer, completion, status
from tests.label.test_ai import JUDGE

OWN = Constitution(
    (Principle("kind", "Where is it rude?", "Say it kindly."), Principle("short", "Too long?", "Cut it."))
)


def test_the_default_set_is_whole() -> None:
    found = read_constitution(DEFAULT)
    assert [one.name for one in found.principles] == ["helpful", "honest", "harmless", "concise"]
    assert all(getattr(one, name).strip() for one in found.principles for name in FIELDS)


ONE = "{name: a, critique: b, revision: c}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping, found NoneType"), ("- a", "expected a mapping, found list"), ("principles:", "principles: found NoneType"),
        ("principles: []", "principles: found an empty list; a list of at least one"), ("principles: be good", "found str"),
        ("principels: []", "principles is missing"), (f"principles: [{ONE}]\nmore: 1", "unknown key 'more'"),
        (f"principles: [{ONE}]\nprinciples: [{ONE}]", "duplicate key"), ("principles: [{name: a, name: b, critique: c, revision: d}]", "duplicate key"),
        (f"principles: [{ONE}, {ONE}]", "principles.2: the name 'a' stands there twice"), ("principles: [be good]", "principles.1: found str"),
        ("principles: [{name: a, critique: b}]", "principles.1: revision is missing"), ("principles: [{name: 1, critique: b, revision: c}]", "principles.1.name: found int"),
        ("principles: [{name: a, critique: '  ', revision: c}]", "found 0 characters"), ("principles: [{name: a, critique: true, revision: c}]", "found bool; text is needed"),
        ("principles: [{name: '../x', critique: b, revision: c}]", "letters, digits"), ("principles: [", "not YAML"), ("a\tb: [\x00]", "not YAML"),
        ("principles: !!python/object:os.system x", "not YAML"), ("principles: &a [*a]", "principles.1: found list"), ("[" * 400, "not YAML"),
        ("principles: [{name: a, critique: Say: this, revision: c}]", "not YAML"), ("when: 2024-13-45", "not YAML"), ("principles: [{1: a}]", "name is missing"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nprinciples: [*c,*c]", "principles.1: found list"),
        ("principles: [" + ", ".join([ONE] * 101) + "]", "found 101; at most 100"), ("---\na: 1\n---\nb: 2", "not YAML"), ("%YAML 9.9\n---\na: 1", ""),
    ],
)  # fmt: skip
def test_a_constitution_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "constitution.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_constitution(path)
    if "unknown key" not in message and "a: &a" not in text and "a: 1" not in text and "when" not in text:
        assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_constitution_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    (tmp_path / "c").write_bytes(b" " * (1 << 20) + b"x")
    for name, message in (
        ("a", "no such file"),
        ("b", "not UTF-8"),
        ("c", "longer than 1 MiB"),
        ("", "Is a directory"),
    ):
        with pytest.raises(UserError, match=message):
            read_constitution(tmp_path / name)


class Script:
    """A writer that a test has written: `says` makes a reply of an item."""

    name, digest = "w", "0" * 8

    def __init__(self, says: Any, block: int = 2) -> None:
        self.says, self.block, self.seen = says, block, list[tuple[Item, tuple[Any, ...]]]()

    def write(self, items: Any, *place: str | int) -> list[str | None]:
        self.seen += [(item, place) for item in items]
        return [self.says(item) for item in items]


def polite(item: Item) -> str | None:
    if not item.after:
        return f"answer to {item.task.prompt}"
    if len(item.after) == 2:
        return "it is rude"
    return item.after[0].content + " please"


TASKS = [Task(f"Question {k}?") for k in range(5)]


def test_each_revision_becomes_a_label(tmp_path: Path) -> None:
    writer, setting = Script(polite), Setting(OWN, 2, 7, tmp_path, asked_in=3)
    found = revise(TASKS, writer, setting)
    by_round = sorted((one.prompt, one.policy_b.split(":")[0], one.a, one.b) for one in found.labels)
    assert by_round == [
        (f"Question {k}?", f"w, revision {n}", f"answer to Question {k}?", f"answer to Question {k}?" + " please" * n)
        for k in range(5)
        for n in (1, 2)
    ]
    assert {(one.kind, one.answer, one.policy_a, one.round) for one in found.labels} == {("constitution", "B", "w", 3)}
    critiques = [item for item, _ in writer.seen if len(item.after) == 2]
    revisions = [item for item, _ in writer.seen if len(item.after) == 4]
    assert len(critiques) == len(revisions) == 10
    requests = {one.critique: one.revision for one in OWN.principles}
    for item in revisions:
        asked = item.after
        assert [turn.role for turn in asked] == ["assistant", "user", "assistant", "user"]
        assert requests[asked[1].content] == asked[3].content  # one principle for both
        assert asked[2] == Turn("assistant", "it is rude")
    assert {item.after[1].content for item in critiques} == set(requests)  # drawn, not the first one
    names = {one.prompt: one.policy_b.split(": ")[1] for one in found.labels if ", revision 1:" in one.policy_b}
    asked_by = {item.task.prompt: item.after[1].content for item in reversed(critiques)}
    assert all({"kind": "Where is it rude?", "short": "Too long?"}[names[p]] == asked_by[p] for p in names)
    before = len(writer.seen)
    assert revise(TASKS, writer, setting).labels == found.labels
    assert len(writer.seen) == before  # nothing is written again


@pytest.mark.parametrize("after", range(0, 24, 5))
def test_a_writer_that_dies_at_any_moment_loses_nothing(tmp_path: Path, after: int) -> None:
    whole, often = Setting(OWN, 2, 7, tmp_path / "whole"), Setting(OWN, 2, 7, tmp_path / "often")
    revise(TASKS, Script(polite), whole)
    left = [after]

    def dies(item: Item) -> str | None:
        left[0] -= 1
        if left[0] < 0:
            raise UserError("label: --endpoint: gone")
        return polite(item)

    with pytest.raises(UserError, match=r"gone; \d+ revisions are kept; the same command goes on with the rest"):
        revise(TASKS, Script(dies), often)
    revise(TASKS, Script(polite), often)
    files = [next((tmp_path / name).glob("*.jsonl")).read_text().splitlines() for name in ("whole", "often")]
    assert sorted(files[0]) == sorted(files[1])
    assert read_labels(tmp_path / "often").left_out["repeated"] == 0


def test_what_is_no_revision_is_counted(tmp_path: Path) -> None:
    def odd(item: Item) -> str | None:
        number = int(item.task.prompt.split()[1][0])
        if not item.after:
            return [None, " ", "x", "x", "x"][number]
        if len(item.after) == 2:
            return None if number == 2 else "c"
        return ["", "", "", " x ", ""][number]

    found = revise(TASKS, Script(odd), Setting(OWN, 1, 0, tmp_path))
    assert found.labels == []
    assert {rule: n for rule, n in found.counts.items() if n} == {
        "no_answer": 2,
        "no_revision": 1,
        "unchanged": 1,
        "empty": 1,
    }


def test_another_constitution_seed_or_writer_is_another_annotator(tmp_path: Path) -> None:
    one = Setting(OWN, 1, 0, tmp_path).annotator(Script(polite))
    other = Constitution(OWN.principles[:1])
    assert (
        len(
            {
                one,
                Setting(other, 1, 0, tmp_path).annotator(Script(polite)),
                Setting(OWN, 1, 1, tmp_path).annotator(Script(polite)),
            }
        )
        == 3
    )


def found(preferred: int, of: int) -> list[Finding]:
    outcomes = [1.0] * preferred + [0.0] * (of - preferred)
    by = Judge("j", lambda labels: outcomes[: len(labels)])
    tasks = [Task(f"Q {k}") for k in range(of)]
    setting = revise(tasks, Script(polite), Setting(OWN, 1, 0, Path())).labels
    return measure(setting, by, most=of, seed=0)


@pytest.mark.parametrize(
    ("preferred", "of", "said"),
    [(40, 50, "helps"), (10, 50, "harm"), (25, 50, "unclear"), (29, 50, "unclear"), (10, 10, "unclear"), (0, 10, "unclear"), (0, 0, "unclear")],
)  # fmt: skip
def test_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preferred: int, of: int, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    findings = found(preferred, of)
    assert verdict(findings) == said
    told = lines(findings, "j", Path("inputs/labels/constitution-x.jsonl"))
    assert ("HARM" in told[-1]) == (said == "harm")
    if said == "harm":
        assert "Do not train on inputs/labels/constitution-x.jsonl" in told[-1]
    if of:
        assert findings[0].share is not None
        assert findings[0].share.mean == preferred / of


def test_the_last_round_decides() -> None:
    good, bad = Interval(0.8, 0.7, 0.9), Interval(0.2, 0.1, 0.3)
    assert verdict([Finding(1, 100, good), Finding(2, 100, bad)]) == "harm"
    assert verdict([Finding(1, 100, bad), Finding(2, 100, good)]) == "helps"


def test_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    turns = [{"role": "user", "content": "Hi"}]
    write_jsonl(
        path,
        [{"prompt": "a", "chosen": "x"}, {"prompt": "a"}, {"prompt": "<u>Hi", "conversation": turns}, {"prompt": "c"}],
    )
    assert sorted(task.prompt for task in read_tasks(path, 10, 0)) == ["<u>Hi", "a", "c"]
    assert len(read_tasks(path, 2, 0)) == 2
    assert {task.turns for task in read_tasks(path, 10, 0)} == {(Turn("user", text),) for text in ("Hi", "a", "c")}
    for row, message in (
        ({"prompt": ""}, ":1: prompt"),
        ({"x": 1}, ":1: prompt"),
        ({"prompt": "a", "conversation": 3}, ":1: conversation"),
    ):
        write_jsonl(path, [row])
        with pytest.raises(UserError, match=message):
            read_tasks(path, 10, 0)
    path.write_text("")
    with pytest.raises(UserError, match="no prompts"):
        read_tasks(path, 10, 0)


class Author(JudgeServer):
    """A model that answers, criticises and revises, and that judges as `opinion` does."""

    def answer(self, request: dict[str, Any], authorization: str | None) -> Answer:
        if self.script:
            return self.script.pop(0)
        messages = request["messages"]
        if "[Response A]" in messages[-1]["content"]:
            return super().answer(request, authorization)
        said = {1: "first", 3: "critique", 5: "a longer revision"}[len(messages)]
        return completion(f"{said} of {messages[0]['content'].split()[1]}")


@pytest.fixture
def author() -> Iterator[Author]:
    with Author() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLHF_JUDGE_CACHE", raising=False)
    monkeypatch.setattr("rlhf.judge.client.FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("stages.cli._interrupt", signal.default_int_handler)
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": f"\n\nHuman: Question {k}?\n\nAssistant:"} for k in range(20)])
    return tmp_path


def run(folder: Path, judge: dict[str, Any], *options: str) -> Result:
    write_json(folder / "params.resolved.json", {"seed": 0, "evaluate": {"judge": JUDGE | judge, "batch_tokens": 500}})
    return CliRunner().invoke(main, ["constitution", "--prompts", "prompts.jsonl", *options])


def test_an_endpoint_writes_and_another_model_judges(folder: Path, author: Author) -> None:
    ask = ("--endpoint", author.url, "--model", "w", "--rounds", "1")
    done = run(folder, {"endpoint": author.url, "model": "j"}, *ask)
    assert done.exit_code == 0, done.output
    assert "20 revisions of 20 prompts" in done.output
    assert "revision 1 preferred by j: 1.00 (0.84 to 1.00) of 20 pairs" in done.output
    assert "verdict: the constitution helps" in done.output
    (file,) = Path("inputs/labels").glob("constitution-*.jsonl")
    assert json.loads(file.with_suffix(".json").read_text())["labels_constitution_verdict"] == "helps"
    assert len(read_labels(Path("inputs/labels")).answers) == 20
    assert {one["model"] for one in author.asked} == {"w", "j"}
    count = len(author.asked)
    author.opinion = lambda a, b: "never asked"
    again = run(folder, {"endpoint": author.url, "model": "j"}, *ask)
    assert again.stdout == done.stdout
    assert len(author.asked) == count  # all of it is known
    with JudgeServer(opinion=lambda a, b: json.dumps({"verdict": "A" if len(a) < len(b) else "B"})) as other:
        done = run(folder, {"endpoint": other.url, "model": "k"}, *ask)
    assert "verdict: the constitution does HARM" in done.output


@pytest.mark.parametrize(
    ("judge", "options", "message"),
    [
        ({"model": "w"}, ("--judge", "model"), "which writes the revisions itself"), ({"model": "W"}, (), "no evaluate.judge.endpoint of another model"),
        ({}, ("--judge", "gold"), "knows no gold reward"), ({}, ("--policy", "sft"), "--policy and --endpoint"),
        ({"model": "j"}, ("--constitution", "c.yaml"), "c.yaml: principles: found an empty list"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_asked(
    folder: Path, author: Author, judge: dict[str, Any], options: tuple[str, ...], message: str
) -> None:
    Path("c.yaml").write_text("principles: []")
    done = run(folder, {"endpoint": author.url, **judge}, "--endpoint", author.url, "--model", "w", *options)
    assert done.exit_code == 1
    assert message in done.output.splitlines()[-1]
    assert "Traceback" not in done.output
    assert author.asked == []
    assert not Path("inputs").exists()


def test_nobody_to_write(folder: Path) -> None:
    assert "--policy or --endpoint: one of them is needed" in run(folder, {}).output


def test_an_endpoint_that_dies_and_a_budget(folder: Path, author: Author) -> None:
    ask = ("--endpoint", author.url, "--model", "w", "--judge", "none")
    done = run(folder, {}, *ask, "--budget-requests", "10")
    assert "3 revisions of 3 prompts; the budget is spent, 17 prompts are left" in done.output
    assert "verdict: none" in done.output
    author.script = [status(500)] * 2
    done = run(folder, {}, *ask)
    assert done.exit_code == 1
    assert "fails (HTTP 500), tried 2 times" in done.output.splitlines()[-1]
    assert "3 revisions are kept" in done.output.splitlines()[-1]
    assert "20 revisions of 20 prompts" in run(folder, {}, *ask).output


SHORT = {"principles": [{"name": n, "critique": f"Bad {n}?", "revision": f"More {n}."} for n in ("ab", "cd")]}
RUNTIME = {
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "portable": False,
    "checkpoint_s": 60.0,
    "checkpoint_steps": 0,
}


@pytest.fixture
def trained(folder: Path) -> Layout:
    """A run in miniature, whose context of 128 tokens leaves room for some of the prompts."""
    at = Layout()
    build(at, policy_seed=9, gold=None, prompts=6, ood=0, referee=True)
    resolved = {
        "seed": 4, "runtime": RUNTIME, "live": {"to": []}, "data": {"source": "synthetic", "format": "hh"},
        "ppo": {"response_tokens": 8, "temperature": 0.9}, "evaluate": {"judge": JUDGE, "batch_tokens": 500},
    }  # fmt: skip
    write_json(Path("params.resolved.json"), resolved)
    write_jsonl(
        at.pairs / "train.jsonl",
        [{"prompt": f"\n\nHuman: {k}?\n\nAssistant:"} for k in range(5)] + [{"prompt": "x" * 300}],
    )
    write_json(Path("c.yaml"), SHORT)  # JSON is YAML
    return at


def test_a_referee_that_does_not_beat_length_is_not_chosen_and_may_be_asked_for(trained: Layout) -> None:
    write_json(trained.metrics("reward"), {"reward_referee_beats_length": False})
    command = ["constitution", "--constitution", "c.yaml", "--policy", "ppo", "--count", "6"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "preferred by the reward model: " in done.output


@pytest.mark.thorough
def test_a_referee_on_an_encoder_judges(trained: Layout, tiny_encoder_dir: Path) -> None:
    rmtree(trained.referee)
    referee = EncoderReferee.unfitted(SentenceEncoder.load(tiny_encoder_dir))
    with torch.no_grad():
        referee.head.line.weight.fill_(0.5)
    save_referee(referee, trained.referee, base=trained.base, sft=trained.sft)
    command = ["constitution", "--constitution", "c.yaml", "--policy", "ppo", "--count", "6"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "preferred by the referee: " in done.output


def test_a_policy_of_the_run_writes_and_a_reward_model_judges(trained: Layout) -> None:
    command = ["constitution", "--constitution", "c.yaml", "--policy", "ppo", "--count", "6"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "1 no answer" in done.output  # the prompt that leaves no room
    assert "preferred by the referee: " in done.output
    assert "verdict: unclear" in done.output
    (file,) = Path("inputs/labels").glob("constitution-ppo-*.jsonl")
    labels, text = read_labels(file).answers, file.read_text()
    assert len(labels) >= 3
    backbone = Backbone.load(trained.base, {"p": trained.ppo}, dtype=torch.float32, device=torch.device("cpu"))
    order = [task.prompt for task in read_tasks(trained.pairs / "train.jsonl", 6, 4)]
    short = [prompt for prompt in order if len(prompt) < 100]

    def sampled(texts: list[str], *place: object) -> list[str]:
        stream: Any = (4, "label", "constitution", *place)
        return [
            s.response
            for s in sample_texts(backbone, texts, Sampling(8, 0.9), adapter="p", stream=stream, batch_size=3)
        ]

    firsts = dict(zip(short, sampled(short, 0, "answer"), strict=True))
    names = {one.prompt: one.policy_b.rpartition(" ")[2] for one in labels}
    assert all(one.a == firsts[one.prompt] for one in labels)
    if len(names) == len(short):  # all of them were revised: the whole is written out by hand
        before = [p + firsts[p] + f"\n\nHuman: Bad {names[p]}?\n\nAssistant:" for p in short]
        critiques = sampled(before, 0, 1, "critique")
        again = [
            b + c + f"\n\nHuman: More {names[p]}.\n\nAssistant:"
            for p, b, c in zip(short, before, critiques, strict=True)
        ]
        assert [one.b for one in labels] == sampled(again, 0, 1, "revision")
    file.write_text("".join(text.splitlines(keepends=True)[:2])[:-30])  # a kill
    done = CliRunner().invoke(main, [*command, "--judge", "reward"])
    assert done.exit_code == 0, done.output
    assert sorted(read_labels(file).answers, key=lambda one: one.prompt) == sorted(labels, key=lambda one: one.prompt)
    assert "preferred by the reward model: " in done.output
    assert "policy 'x': not among" in CliRunner().invoke(main, [*command[:3], "--policy", "x"]).output
