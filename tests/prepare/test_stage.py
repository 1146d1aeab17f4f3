"""The command: one line and exit status 1 on bad input, all its files on good input."""

import json
from pathlib import Path
from typing import Any

from tests.prepare.helpers import VALUES, pair_rows, write_lines
from tests.stages.forker import Ended, Forker

BASE = {
    "source": "pretrain", "path": "inputs/model", "repo": None, "revision": None,
    "pretrain": {
        "layers": 2, "heads": 4, "width": 128, "context": 256, "init_range": 0.06, "steps": 10, "batch_size": 4,
        "shards": 1,
        "lr": 1e-3, "warmup_steps": 0, "schedule": "linear", "weight_decay": 0.0, "grad_clip": 1.0,
        "validation_share": 0.1, "eval_every": 5, "log_every": 5,
    },
}  # fmt: skip


def run(forker: Forker, folder: Path, **data: Any) -> Ended:
    room = {"max_prompt_tokens": None, "response_tokens": 20, "validation_every": None}
    resolved = {"data": VALUES | {"max_tokens": 200} | data, "base": BASE, "ppo": room, "seed": 0}
    (folder / "params.resolved.json").write_text(json.dumps(resolved))
    return forker.run("prepare", folder)


def test_good_input_writes_everything(forker: Forker, tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl.gz", pair_rows(60))
    done = run(forker, tmp_path, path="pairs.jsonl.gz")
    assert done.code == 0, done.said
    assert "60 rows read, 60 kept" in done.err
    pairs = tmp_path / "artifacts" / "prepare" / "pairs"
    assert sorted(path.name for path in pairs.iterdir()) == [
        "ood.jsonl", "set_aside.jsonl", "task.json", "test.jsonl", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    assert json.loads((pairs / "task.json").read_text()) == {"gold": None, "noise_ceiling": None}
    assert (tmp_path / "artifacts" / "prepare" / "tokenizer" / "tokenizer.json").is_file()
    assert (tmp_path / "artifacts" / "prepare" / "corpus.jsonl").is_file()
    assert (tmp_path / "metrics" / "prepare.json").is_file()


def test_bad_input_is_one_line_and_leaves_nothing(forker: Forker, tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl", [*pair_rows(5), {"prompt": "x", "chosen": None, "rejected": "y"}])
    for changes, expected in (
        ({"path": "pairs.jsonl"}, "pairs.jsonl:6: chosen: expected text, found None"),
        ({"path": "missing.jsonl"}, "data.path: missing.jsonl: no such file or folder"),
        ({"path": "pairs.jsonl", "max_tokens": 256}, "data.max_tokens: found 256; at most 255 is allowed"),
    ):
        done = run(forker, tmp_path, **changes)
        assert done.code == 1
        (line,) = [line for line in done.err.splitlines() if line.strip()]
        assert line.startswith(f"error: {expected}")
        assert not (tmp_path / "artifacts").exists()
