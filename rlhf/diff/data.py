"""What happened to the data between two runs: rows in, rows out, by reason, and rows that changed split."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.params import dug

SPLITS = ("train", "validation", "test")
GONE, NEW = "not in the data any more", "new"
_COUNTS = {
    "prepare_rows_read": "rows in",
    "prepare_rows_kept": "rows out",
    "prepare_rows_dropped": "dropped",
    "prepare_rows_set_aside": "set aside",
}
_REASONS = {"prepare_dropped_": "dropped: ", "prepare_set_aside_": "set aside: ", "prepare_pairs_": "pairs in "}
_OF_A_SPLIT = ("seed", "data.validation_share", "data.test_share", "data.prompt_template", "data.format")


@dataclass(frozen=True, slots=True)
class Pairs:
    """The rows of a prepared data set: where each is, by what it says; and the rule of each row set aside, by its
    place in the source."""

    split: Mapping[tuple[str, str, str], str]
    origin: Mapping[tuple[str, str, str], str]
    set_aside: Mapping[str, str]


def counts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, int | None, int | None]]:
    """List (what, before, after): rows in and out, and each reason and split that has any in either run."""
    rows = [(shown, before.get(name), after.get(name)) for name, shown in _COUNTS.items()]
    for begins, shown in _REASONS.items():
        names = sorted({name for name in {**before, **after} if name.startswith(begins)})
        found = [(shown + name.removeprefix(begins), before.get(name), after.get(name)) for name in names]
        rows += [row for row in found if row[1] or row[2]]
    return [row for row in rows if row[1] is not None or row[2] is not None]


def read_pairs(files: Mapping[str, bytes]) -> Pairs:
    """Read the files of artifacts/prepare/pairs, by name. The same row twice counts once: a split goes by prompt.

    Raises:
        UserError: a line is not JSON.
    """
    split: dict[tuple[str, str, str], str] = {}
    origin: dict[tuple[str, str, str], str] = {}
    for name in SPLITS:
        for row in _rows(files, f"{name}.jsonl"):
            key = (str(row.get("prompt")), str(row.get("chosen")), str(row.get("rejected")))
            split[key], origin[key] = name, str(row.get("origin", ""))
    aside = {str(row.get("origin", "")): str(row.get("rule", "")) for row in _rows(files, "set_aside.jsonl")}
    return Pairs(split, origin, aside)


def moves(before: Pairs, after: Pairs) -> dict[tuple[str, str], int]:
    """Count rows by (where they were, where they are), of those that are somewhere else.

    A row is the same if it says the same. One that is in no split any more is looked for among the rows set aside, by
    its place in the source; the rest was dropped by a filter or is not in the source any more.
    """
    found: Counter[tuple[str, str]] = Counter()
    for key in {**before.split, **after.split}:
        old, new = before.split.get(key, NEW), after.split.get(key)
        if new is None:
            rule = after.set_aside.get(before.origin[key])
            new = f"set aside: {rule}" if rule else GONE
        if old == NEW and (rule := before.set_aside.get(after.origin[key])):
            old = f"set aside: {rule}"
        if old != new:
            found[old, new] += 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def why_split(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """List the parameters that decide a row's split and have changed, as "seed: 0 → 1"."""
    pairs = [(name, dug(before, name), dug(after, name)) for name in _OF_A_SPLIT]
    return [f"{name}: {old} → {new}" for name, old, new in pairs if old != new]


def _rows(files: Mapping[str, bytes], name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(files.get(name, b"").split(b"\n"), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise UserError(f"artifacts/prepare/pairs/{name}:{number}: not a line of JSON: {error}") from None
        if isinstance(row, dict):
            yield row
