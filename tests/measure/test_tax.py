"""Benchmarks against an unpadded pass of transformers; real files where they are at hand."""

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.measure.tax import Item, read_benchmark, read_benchmarks, score
from rlhf.models.policy.backbone import Backbone
from tests.model_fixtures import make_adapter

SHARED = Path(os.environ.get("RLHF_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
ITEMS = [
    Item("The cat sat on", (" the mat",), 0),
    Item("Hello", (" world", " you there", " x"), 1),
    Item("A much longer context than the others have, because", (" it is so.", " no."), 0),
]


@pytest.fixture(scope="module")
def backbone(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    adapter = make_adapter(tiny_model_dir, tmp_path_factory.mktemp("adapters") / "sft", seed=5)
    return Backbone.load(tiny_model_dir, {"sft": adapter}, dtype=torch.float32, device="cpu")


def by_hand(backbone: Backbone, context: str, choice: str) -> tuple[float, bool]:
    """Mean log p of a continuation, and whether each of its tokens is the likeliest; one row, no padding."""
    prompt, ids = backbone.tokenizer(context)["input_ids"], backbone.tokenizer(choice)["input_ids"]
    backbone.model.set_adapter("sft")
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    rows = logits.double().log_softmax(-1).numpy()
    return float(np.mean([rows[k, token] for k, token in enumerate(ids)])), bool((rows.argmax(1) == ids).all())


@pytest.mark.parametrize("batch_tokens", [10, 10_000])
def test_scores_are_those_of_one_row_at_a_time(backbone: Backbone, batch_tokens: int) -> None:
    found = score(backbone, ITEMS, adapter="sft", batch_tokens=batch_tokens)
    for item, logprob, correct in zip(ITEMS, found.logprob, found.correct, strict=True):
        oracle = [by_hand(backbone, item.context, choice) for choice in item.choices]
        assert logprob == pytest.approx(oracle[item.gold][0], abs=1e-4)
        best = max(range(len(oracle)), key=lambda k: oracle[k][0])
        assert correct == (oracle[0][1] if len(oracle) == 1 else best == item.gold)


def test_what_greedy_decoding_says_is_correct(backbone: Backbone) -> None:
    """The model's own greedy continuation is an item that it gets right; another word is one that it gets wrong."""
    backbone.model.set_adapter("sft")
    items = []
    for context in (f"The {word} sat on" for word in ("cat", "dog", "hat", "king", "sea", "egg", "old man", "boy")):
        ids = list(backbone.tokenizer(context)["input_ids"])
        with torch.no_grad():
            said = int(backbone.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        text = backbone.tokenizer.decode([said])
        if backbone.tokenizer(text)["input_ids"] == [said]:  # a token that is a text of its own
            items += [Item(context, (text,), 0), Item(context, (text + "z",), 0)]
    assert items
    assert score(backbone, items, adapter="sft", batch_tokens=1000).correct == (1.0, 0.0) * (len(items) // 2)


def test_a_long_context_loses_its_beginning(backbone: Backbone) -> None:
    room = backbone.context
    item = Item("so " * (2 * room) + "the end", (" is",), 0)
    found = score(backbone, [item, ITEMS[0]], adapter="sft", batch_tokens=10_000)
    assert math.isfinite(found.logprob[0])
    assert found.logprob[1] == pytest.approx(by_hand(backbone, "The cat sat on", " the mat")[0], abs=1e-4)
    with pytest.raises(UserError, match="fills the model's context of"):
        score(backbone, [Item("a", (" so" * (2 * room),), 0)], adapter="sft", batch_tokens=10_000)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_both_forms_are_read(tmp_path: Path) -> None:
    rows = [{"context": "I see ", "continuation": "signs"}, {"query": "So", "choices": ["a.", " b."], "gold": 1}]
    assert read_benchmark(write(tmp_path / "b.jsonl", *rows)) == [
        Item("I see", (" signs",), 0),
        Item("So", (" a.", " b."), 1),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{oops", r"b.jsonl:2: not a line of JSON"),
        ({"continuation": "x"}, r"b.jsonl:2: context or query: expected text, found None"),
        ({"context": " ", "continuation": "x"}, r"b.jsonl:2: context or query"),
        ({"context": "a", "continuation": 3}, r"b.jsonl:2: continuation or choices: expected text, found \[3\]"),
        ({"context": "a"}, r"b.jsonl:2: expected a continuation, or a list of choices"),
        ({"query": "a", "choices": ["x", "y"], "gold": 2}, r"b.jsonl:2: gold: expected the index .* 0 to 1, found 2"),
        ({"query": "a", "choices": ["x", "y"], "gold": True}, r"b.jsonl:2: gold"),
        ({"query": "a", "choices": ["x", "y"]}, r"b.jsonl:2: gold: missing"),
        ({"query": "a", "choices": ["x", " "], "gold": 0}, r"b.jsonl:2: continuation or choices"),
    ],
)
def test_a_broken_row_names_its_line(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_benchmark(write(tmp_path / "b.jsonl", {"context": "a", "continuation": "b"}, row))


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b.jsonl: no rows"):
        read_benchmark(write(tmp_path / "b.jsonl"))


def test_a_folder_holds_a_benchmark_a_file(tmp_path: Path) -> None:
    rows = [{"context": f"a {k}", "continuation": "b"} for k in range(9)]
    write(tmp_path / "Last-Word v2.jsonl", *rows)
    (tmp_path / "more.jsonl.gz").write_bytes(gzip.compress(json.dumps(rows[0]).encode()))
    (tmp_path / "README.md").write_text("no benchmark")
    found = read_benchmarks(tmp_path, count=4, seed=0)
    assert {name: len(items) for name, items in found.items()} == {"last_word_v2": 4, "more": 1}
    assert found == read_benchmarks(tmp_path, count=4, seed=0)
    whole = read_benchmarks(tmp_path / "Last-Word v2.jsonl", count=0, seed=0)["last_word_v2"]
    assert [item.context for item in whole] == [f"a {k}" for k in range(9)]
    assert found["last_word_v2"] == [item for item in whole if item in found["last_word_v2"]]  # order is kept


def test_names_that_are_taken_and_paths_that_are_not_there(tmp_path: Path) -> None:
    row = {"context": "a", "continuation": "b"}
    for names, taken in (("perplexity",), "perplexity"), (("a b", "a-b"), "a_b"), (("!",), ""):
        folder = tmp_path / names[0]
        folder.mkdir()
        for name in names:
            write(folder / f"{name}.jsonl", row)
        with pytest.raises(UserError, match=rf"metrics would be called '{taken}'"):
            read_benchmarks(folder, count=0, seed=0)
    with pytest.raises(UserError, match=r"evaluate.tax.path: .*nowhere: no such file or folder"):
        read_benchmarks(tmp_path / "nowhere", count=0, seed=0)


@pytest.mark.skipif(not (SHARED / "tax").is_dir(), reason=f"no {SHARED / 'tax'}")
def test_real_benchmarks_are_read_whole() -> None:
    lambada, copa = read_benchmark(SHARED / "tax/lambada_500.jsonl"), read_benchmark(SHARED / "tax/copa.jsonl")
    assert (len(lambada), len(copa)) == (500, 100)
    assert {len(item.choices) for item in copa} == {2}
    assert lambada[0].choices == (" signs",)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "stories260K").is_dir(), reason=f"no {SHARED / 'stories260K'}")
def test_a_real_model_on_real_benchmarks() -> None:
    model = Backbone.load(SHARED / "stories260K", {}, dtype=torch.float32, device="cpu")
    copa = score(model, read_benchmark(SHARED / "tax/copa.jsonl"), adapter=None, batch_tokens=8192)
    assert 0.4 <= sum(copa.correct) / 100 <= 0.7
    lambada = read_benchmark(SHARED / "tax/lambada_500.jsonl")[:60]
    assert all(-12 < x < 0 for x in score(model, lambada, adapter=None, batch_tokens=8192).logprob)
