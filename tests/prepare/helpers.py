"""Small builders for the tests of `prepare`."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlhf.prepare.params import DataParams

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"

COLUMNS = (
    "prompt", "extra", "system", "chosen", "rejected", "reply", "label", "first", "second", "winner", "replies",
    "ranks", "score", "weight", "margin", "annotator",
)  # fmt: skip

VALUES: dict[str, Any] = {
    "source": "files",
    "path": "nowhere",
    "format": "pairs",
    "template": "dialogue",
    "on_turn_marker": "skip",
    "prompt_template": "\n\nHuman: {prompt}\n\nAssistant:",
    "on_bad_row": "stop",
    "min_tokens": 1,
    "max_tokens": 2000,
    "max_pairs": 0,
    "validation_share": 0.2,
    "test_share": 0.2,
    "vocabulary": 300,
    "columns": dict.fromkeys(COLUMNS),
    "labels": {"use": False, "path": "nowhere", "round": 0, "kinds": ["people", "model", "constitution", "simulated"]},
    "hub": {"repo": None, "revision": None, "data_dir": None, "split": "train"},
    "synthetic": {
        "prompts": 40,
        "pairs_per_prompt": 2,
        "two_turn_share": 0.15,
        "annotator_temperature": 0.6,
        "ood_prompts": 5,
        "corpus_documents": 200,
        "biases": {"length_per_10_words": 0.0, "flattery": 0.0, "keyword": "certainly", "keyword_logit": 0.0},
    },
}


def data_params(**changes: Any) -> DataParams:
    return DataParams.model_validate(VALUES | changes)


def pair_rows(number: int, start: int = 0) -> list[dict[str, Any]]:
    """Distinct, sound rows."""
    return [
        {"prompt": f"Question {i}?", "chosen": f"Good answer {i}.", "rejected": f"Bad {i}."}
        for i in range(start, start + number)
    ]


def hh_row(prompt: str = "Hi", chosen: str = " yes", rejected: str = " no") -> dict[str, str]:
    before = f"{HUMAN} {prompt}{ASSISTANT}"
    return {"chosen": before + chosen, "rejected": before + rejected}


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """JSON lines; bytes and strings are written as they are. Gzipped if the name says so."""
    lines = [
        row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else json.dumps(row).encode()
        for row in rows
    ]
    data = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
