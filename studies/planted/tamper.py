"""Plant faults that no parameter can make, between two stages. Nothing of the project knows of them."""

import json

from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_jsonl
from rlhf.core.layout import Layout
from rlhf.core.seeding import rng
from studies.run import Tamper


def shuffle_labels(at: Layout, seed: int) -> None:
    """Swap chosen and rejected in half of the pairs, drawn by the seed: labels that say nothing."""
    for split in ("train", "validation", "test"):
        path = at.pairs / f"{split}.jsonl"
        draw = rng(seed, "planted", "shuffle", split)
        rows = []
        for row in read_jsonl(path):
            swap = draw.random() < 0.5
            rows.append(row | {"chosen": row["rejected"], "rejected": row["chosen"]} if swap else row)
        write_jsonl(path, rows)


def rename_eos(at: Layout, seed: int) -> None:
    """Tell the tokenizers of base and SFT that another token ends a text, one that hardly ever occurs. The model still
    writes the end it has learnt, which now is a token like any other, and goes on."""
    for folder in (at.base, at.sft):
        words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        wrong = _rarest(words["model"]["vocab"])
        config = read_json(folder / "tokenizer_config.json")
        write_json(folder / "tokenizer_config.json", config | {"eos_token": wrong})
    for name in ("config.json", "generation_config.json"):
        path = at.base / name
        if path.exists():
            write_json(path, read_json(path) | {"eos_token_id": words["model"]["vocab"][wrong]})


def _rarest(vocabulary: dict[str, int]) -> str:
    """Find a token that English text never holds: that of the byte 0xFF, or the first of the shortest."""
    return "ÿ" if "ÿ" in vocabulary else min(vocabulary, key=lambda token: (len(token), token))


# With the records that vouch for what is edited: the stages after it check what they read.
SHUFFLE_LABELS = Tamper(shuffle_labels, ("artifacts/prepare/pairs", "provenance/prepare.json"))
RENAME_EOS = Tamper(rename_eos, ("artifacts/base", "artifacts/sft", "provenance/base.json", "provenance/sft.json"))
