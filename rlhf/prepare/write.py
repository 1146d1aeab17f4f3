"""Write a prepared data set to disk, whole or not at all."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rlhf.core.artifacts import atomic_dir, write_json, write_jsonl, write_metrics
from rlhf.core.layout import Layout
from rlhf.models.text.chat_mark import write_note
from rlhf.prepare.build import Prepared
from rlhf.prepare.rows import BadRow, Pair


def write_prepared(prepared: Prepared, layout: Layout) -> None:
    """Write pairs, prompts from outside the distribution, rows set aside, corpus, tokenizer and metrics."""
    with atomic_dir(layout.pairs) as folder:
        for name, pairs in prepared.splits.items():
            write_jsonl(folder / f"{name}.jsonl", _pair_rows(name, pairs))
        ood = [
            {"id": f"ood-{number:05d}", "prompt": prompt, "kind": kind}
            for number, (prompt, kind) in enumerate(prepared.ood)
        ]
        write_jsonl(folder / "ood.jsonl", ood)
        if prepared.probes:
            write_jsonl(folder / "probes.jsonl", map(asdict, prepared.probes))
        write_jsonl(folder / "set_aside.jsonl", map(_bad_row, prepared.ledger.set_aside))
        if prepared.annotators.couples:
            write_json(folder / "annotators.json", prepared.annotators.couples)
            write_jsonl(folder / "disagreements.jsonl", prepared.annotators.disputed)
        if prepared.label_annotators is not None:
            write_json(folder / "label_annotators.json", prepared.label_annotators.couples)
            write_jsonl(folder / "label_disagreements.jsonl", prepared.label_annotators.disputed)
        write_json(folder / "task.json", {"gold": prepared.gold, "noise_ceiling": prepared.ceiling})
    write_jsonl(layout.corpus, ({"text": text} for text in prepared.corpus))
    with atomic_dir(layout.tokenizer) as folder:
        prepared.tokenizer.save_pretrained(folder)
        write_note(prepared.tokenizer, folder)
    write_metrics(layout.metrics("prepare"), prepared.metrics)


def _pair_rows(name: str, pairs: Sequence[Pair]) -> Iterator[dict[str, object]]:
    for number, pair in enumerate(pairs):
        row: dict[str, object] = {
            "id": f"{name}-{number:05d}",
            "prompt": pair.prompt,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "origin": pair.origin,
            "kind": pair.kind,
            "turns": pair.turns,
        }
        if pair.conversation:
            row["conversation"] = [asdict(turn) for turn in pair.conversation]
        if pair.weight != 1:
            row["weight"] = pair.weight
        if pair.margin is not None:
            row["margin"] = pair.margin
        if pair.annotator is not None:
            row["annotator"] = pair.annotator
        if pair.target != 1:
            row["target"] = pair.target
        if pair.labelled_by is not None:
            row["labelled_by"] = pair.labelled_by
        yield row


def _bad_row(row: BadRow) -> dict[str, object]:
    """`row` holds what could be read; values that are not JSON are written as text."""
    return {"origin": row.origin, "rule": row.rule, "reason": row.reason, "row": _plain(row.row)}


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {str(_plain(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
