"""The sweep over architectures: what conformance accepts is right by other code, what it refuses is one line."""

from pathlib import Path

import pytest

from rlhf.core.artifacts import read_json
from studies.architectures.tables import table
from studies.architectures.trial import NOT_TRIED, attempt

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("gpt2", "bloom", "opt", "falcon", "mixtral", "gemma2", "qwen2", "phi", "bart", "openai-gpt", "mamba", "bert")


def test_the_table_says_how_each_ended() -> None:
    rows = [
        {"kind": "a", "engine": "fast", "refused": None, "adapter": "plain", "gap": 1e-6, "wrong": None},
        {"kind": "b", "engine": "plain", "refused": None, "adapter": "peft: no | way", "gap": 1e-6, "wrong": None},
        {"kind": "c", "engine": None, "refused": "2 nats apart", "adapter": None, "gap": None, "wrong": None},
        {"kind": "d", "engine": None, "refused": f"{NOT_TRIED}: why", "adapter": None, "gap": None, "wrong": None},
        {"kind": "e", "engine": "plain", "refused": None, "adapter": "plain", "gap": 2.0, "wrong": "2 nats off"},
    ]
    text = table(rows, {"transformers": "5", "peft": "0.2", "torch": "2"})
    assert "of 5 architectures 3 are equal to the model (1 on the fast engine), 2 of these also" in text
    assert "1 are refused in one line; for 1 no tiny model could be made; 1 are accepted and wrong." in text
    assert text.splitlines()[4:] == [
        "| a | equal, fast | equal, plain |",
        "| b | equal, plain | refused: peft: no \\| way |",
        "| c | refused: 2 nats apart |  |",
        "| d | not tried: why |  |",
        "| e | 2 nats off | equal, plain |",
    ]


def test_no_architecture_was_accepted_and_wrong() -> None:
    rows = read_json(ROOT / "benchmarks/results/architectures.json")["rows"]
    assert len(rows) > 150
    assert [row["kind"] for row in rows if row["wrong"]] == []
    assert [row["kind"] for row in rows if bool(row["engine"]) == bool(row["refused"])] == []


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_ends_as_it_did_in_the_sweep(kind: str, tmp_path: Path) -> None:
    (known,) = (row for row in read_json(ROOT / "benchmarks/results/architectures.json")["rows"] if row["kind"] == kind)
    found = attempt(kind, tmp_path)
    assert found.wrong is None
    assert (found.engine, found.adapter) == (known["engine"], known["adapter"])
    assert (found.refused is None) == (known["refused"] is None)
    assert "\n" not in (found.refused or "")
