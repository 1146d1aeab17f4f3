"""Bad input, for real: each stage's command says in one line what is wrong, before any long work, and writes nothing
or everything."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rlhf.core.provenance import record_again
from tests.stages.forker import Ended, Forker
from tests.stages.project import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

SMALL: dict[str, object] = {
    "profile": "own", "runtime.device": "cpu", "data.path": "data", "data.format": "hh", "data.max_tokens": 100,
    "data.on_bad_row": "stop", "data.validation_share": 0.2, "base.path": "model", "sft.epochs": 1,
    "sft.samples": 2, "sft.sample_tokens": 4, "reward.epochs": 2, "reward.normalise_prompts": 4,
    "reward.response_tokens": 4, "ppo.iterations": 1, "ppo.batch": 4, "ppo.minibatch": 2, "ppo.response_tokens": 4,
    "evaluate.prompts": 4, "evaluate.response_tokens": 4, "evaluate.exact_kl_prompts": 2, "evaluate.samples": 2,
}  # fmt: skip
KEPT = ("params.yaml", "profiles", "data", "model", "metrics", "plots", "provenance", "artifacts")


def dialogue(number: int, reply: str) -> str:
    return f"\n\nHuman: What is {number} and {number}?\n\nAssistant: {reply}"


def rows() -> list[dict[str, str]]:
    return [{"chosen": dialogue(n, f"It is {2 * n}."), "rejected": dialogue(n, "No idea.")} for n in range(40)]


def write_rows(folder: Path, values: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(value) + "\n" for value in values)
    with gzip.open(folder / "data" / "pairs.jsonl.gz", "wt") as file:
        file.write(text)


@pytest.fixture(scope="module")
def trained(forker: Forker, tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with HH pairs and a GPT-2 without pad token (handled), and every stage up to the reward model run."""
    folder = tmp_path_factory.mktemp("bad_input")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("profiles", "rlhf", "stages"):  # the code as well: a run's checkpoints are named after it
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(tiny_model_dir, folder / "model")
    (folder / "data").mkdir()
    for own in ("reward", "benchmarks", "people"):
        (folder / "inputs" / own).mkdir(parents=True)
    write_rows(folder, rows())
    Project(folder).set(SMALL)
    for name in ("resolve", "prepare", "base", "conformance", "sft", "reward"):
        ended = forker.run(name, folder)
        assert ended.code == 0, f"{name}: {ended.said}"
    return folder


def test_a_tokenizer_without_pad_token_is_given_one(trained: Path) -> None:
    assert "pad_token" not in json.loads((trained / "model" / "tokenizer_config.json").read_text())
    assert json.loads((trained / "artifacts" / "prepare" / "tokenizer" / "tokenizer_config.json").read_text())[
        "pad_token"
    ]


def settings(**changes: object) -> Callable[[Path], None]:
    return lambda folder: Project(folder).set({key.replace("__", "."): value for key, value in changes.items()})


def misspell(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("kl_coef:", "kl_cef:"))


def cut_gzip(folder: Path) -> None:
    path = folder / "data" / "pairs.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-40])


def row_without_assistant(folder: Path) -> None:
    values = rows()
    values[16]["chosen"] = "\n\nHuman: Anyone here?"
    write_rows(folder, values)


def prompts_differ(folder: Path) -> None:
    values = rows()
    values[4]["rejected"] = dialogue(99, "No idea.")
    write_rows(folder, values)


def only_pickled(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()
    torch.save({}, folder / "model" / "pytorch_model.bin")


def cut_weights(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return remove


def long_row(folder: Path) -> None:
    Project(folder).set({"ppo.max_prompt_tokens": 0, "ppo.response_tokens": 60})
    questions = [f"\n\nHuman: {n} {'so ' * 34}\n\nAssistant:" for n in range(6)]  # not all of them held out
    write_rows(folder, [*rows(), *({"chosen": f"{q} Yes.", "rejected": f"{q} No."} for q in questions)])


def long_prompt(folder: Path) -> None:
    Project(folder).set({"ppo.max_prompt_tokens": 0})
    path = folder / "artifacts" / "prepare" / "pairs" / "train.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "prompt": f"\n\nHuman: {'so ' * 120}\n\nAssistant:"})
    path.write_text("\n".join(lines) + "\n")
    record_again(folder / "provenance" / "prepare.json")  # or it would be refused as not what prepare wrote


@dataclass(frozen=True)
class Case:
    """How to break the folder, the stage that must notice, and what its line must hold."""

    breaks: Callable[[Path], None]
    stage: str
    words: tuple[str, ...]


BAD = {
    "unknown-key": Case(misspell, "resolve", ("params.yaml: ppo.kl_cef", "unknown key", "kl_coef")),
    "wrong-type": Case(settings(sft__epochs="two"), "resolve", ("params.yaml", "sft.epochs", "'two'", "integer")),
    "minibatch": Case(settings(ppo__batch=10, ppo__minibatch=4), "resolve", ("minibatch 4", "batch 10", "1, 2, 5, 10")),
    "no-data": Case(settings(data__path="data/none.jsonl"), "prepare", ("data.path: data/none.jsonl", "no such file")),
    "cut-gzip": Case(cut_gzip, "prepare", ("data/pairs.jsonl.gz:", "cut off")),
    "no-assistant": Case(row_without_assistant, "prepare", ("data/pairs.jsonl.gz:17:", "Assistant:", "on_bad_row")),
    "prompts-differ": Case(prompts_differ, "prepare", ("data/pairs.jsonl.gz:5:", "prompt", "on_bad_row")),
    "nothing-left": Case(settings(data__max_tokens=5), "prepare", ("nothing is left", "40 rows", "data.max_tokens")),
    "over-context": Case(settings(data__max_tokens=128), "prepare", ("data.max_tokens: found 128", "at most 127")),
    "no-room": Case(long_row, "prepare", ("max_prompt_tokens: found 0 (all)", "pairs.jsonl.gz:4", "at most 68 is")),
    "no-model": Case(settings(base__path="nowhere"), "prepare", ("nowhere", "not a folder")),
    "no-config": Case(without("model/config.json"), "prepare", ("model: no config.json",)),
    "no-weights": Case(without("model/model.safetensors"), "prepare", ("no weights", "model.safetensors is needed")),
    "only-bin": Case(only_pickled, "prepare", ("model: ", "pytorch_model.bin", "safetensors")),
    "no-tokenizer": Case(without("model/tokenizer.json"), "prepare", ("model: no tokenizer", "tokenizer.json")),
    "cut-weights": Case(cut_weights, "base", ("model: cannot load",)),
    "long-prompt": Case(long_prompt, "ppo", ("train-00002", "context of 128", "ppo.max_prompt_tokens to at most 124")),
    "no-reward-model": Case(without("artifacts/reward/reward.json"), "ppo", ("reward.json is missing", "reward wrote")),
}  # fmt: skip


def one_line(ended: Ended, words: tuple[str, ...]) -> None:
    """One line of error, the last one, and nothing but progress bars before it: fast or slow ("it/s" or "s/it"), these
    show a clock."""
    assert (ended.code, ended.signal) == (1, 0), ended.said
    assert "Traceback" not in ended.said
    *before, last = ended.err.splitlines()
    assert last.startswith("error: "), ended.err
    assert [line for line in before if line.strip() and not re.search(r"\[\d\d:\d\d", line)] == [], ended.err
    for word in words:
        assert word in last, ended.err


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    return copy


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_changes_nothing(forker: Forker, folder: Path, name: str) -> None:
    case = BAD[name]
    case.breaks(folder)
    if case.stage != "resolve" and changed(folder, "params.yaml"):
        assert forker.run("resolve", folder).code == 0
    before = snapshot(folder)
    one_line(forker.run(case.stage, folder), case.words)
    assert snapshot(folder) == before


def changed(folder: Path, name: str) -> bool:
    return (folder / name).stat().st_mtime_ns > (folder / "params.resolved.json").stat().st_mtime_ns


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file that a stage may write."""
    kept = [path for name in KEPT for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


@dataclass(frozen=True)
class Room:
    """A stage, how long its files may get, and an out of it that is there before, or is not."""

    stage: str
    longest: int
    path: str
    there: bool


@pytest.mark.parametrize(
    "room",
    [
        Room("prepare", 2_000, "artifacts/prepare/pairs", there=True),
        Room("prepare", 9_000, "artifacts/prepare/tokenizer", there=False),
        Room("base", 50_000, "artifacts/base", there=False),
        Room("sft", 8_000, "artifacts/sft", there=True),
        Room("reward", 300, "artifacts/reward", there=False),
    ],
    ids=lambda room: f"{room.stage}-{room.longest}",
)
def test_a_disk_without_room_leaves_artifacts_whole_or_absent(forker: Forker, folder: Path, room: Room) -> None:
    if not room.there:
        shutil.rmtree(folder / room.path)
    before = {file: data for file, data in snapshot(folder).items() if file.startswith(room.path + "/")}
    one_line(forker.run(room.stage, folder, largest=room.longest), ("the disk is full",))
    after = {file: data for file, data in snapshot(folder).items() if file.startswith(room.path + "/")}
    assert after == before
    assert not [item for item in (folder / room.path).parent.iterdir() if item.name.startswith(".")]
