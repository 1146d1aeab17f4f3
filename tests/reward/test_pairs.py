import json
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.reward.pairs import TextPair, read_pairs, unique_prompts

ROW = {"id": "train-0", "prompt": "p", "chosen": " a", "rejected": " b", "origin": "x:1", "kind": None, "turns": 1}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reads_what_prepare_wrote(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", ROW, ROW | {"kind": "list", "turns": 3})
    assert read_pairs(path) == [TextPair("p", " a", " b", None, 1), TextPair("p", " a", " b", "list", 3)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"chosen": True}, r":2: chosen: expected str, found True"),
        ({"prompt": "p"}, r":2: chosen: expected str, found nothing"),
        (ROW | {"turns": "1"}, r":2: turns: expected int, found '1'"),
        (ROW | {"turns": True}, r":2: turns: expected int, found True"),
        (ROW | {"kind": 3}, r":2: kind: expected str or null, found 3"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path / "train.jsonl", ROW, row))


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pairs"):
        read_pairs(write(tmp_path / "train.jsonl"))


def test_unique_prompts_keep_their_order() -> None:
    assert unique_prompts([TextPair(p, "", "", None, 1) for p in "bab"]) == ["b", "a"]
