"""Trace the run: each model's provenance, and the files that the report has read with their hashes in dvc.lock."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.dvc_hash import dvc_md5
from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.inputs import Inputs

SHORT_HASH = 12  # digits in Markdown; the page has them all


def lineage(run: Inputs) -> Section:
    """Show hashes of every input and output, and the versions of libraries."""
    made = made_of(run.provenance)
    found = libraries(run.provenance)
    short = [(stage, role, f"`{name}`", f"`{digest[:SHORT_HASH]}`") for stage, role, name, digest in made]
    blocks: list[Block] = [
        Text(
            "Every model's inputs and outputs with the first digits of their SHA-256, as `provenance/` has them; an "
            "input that is another stage's output is not repeated here. The hashes of all code are in `dvc.lock`."
        )
    ]
    if not made:
        return Section("lineage", "What it was made from", [Text("There is no provenance: no model was made yet.")])
    blocks.append(Table(("stage", "role", "what", "SHA-256"), _outputs_once(short), "Inputs and outputs of the models"))
    full = [(stage, role, f"`{name}`", f"`{digest}`") for stage, role, name, digest in made]
    blocks.append(Table(("stage", "role", "what", "SHA-256"), full, "The same in full", short=False))
    files = [(f"`{name}`", f"`{digest}`") for name, digest in read_files(run.files)]
    blocks.append(Table(("file", "MD5"), files, "What this report was made from, as in dvc.lock", short=False))
    versions = ", ".join(f"{name} {' and '.join(sorted(seen))}" for name, seen in sorted(found.items()))
    mixed = sorted(name for name, seen in found.items() if len(seen) > 1)
    blocks.append(Text(f"Libraries: {versions}."))
    if mixed:
        blocks.append(Text(f"Stages ran with different versions of {', '.join(mixed)}: the run was made in pieces."))
    return Section("lineage", "What it was made from", blocks)


def _outputs_once(rows: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    """Drop inputs that are some stage's output under the same hash."""
    outputs = {(what, digest) for _, role, what, digest in rows if role == "output"}
    return [row for row in rows if row[1] == "output" or row[2:] not in outputs]


def read_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Return (name, hash as in dvc.lock) of each file or folder that exists, by name."""
    return [(path.as_posix(), dvc_md5(path)) for path in sorted(set(paths)) if path.exists()]


def made_of(provenance: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return (stage, input or output, name, SHA-256) of every stage that makes a model, in the order given."""
    rows = []
    for stage, record in provenance.items():
        for role in ("inputs", "outputs"):
            rows += [(stage, role[:-1], name, digest) for name, digest in sorted(record.get(role, {}).items())]
    return rows


def libraries(provenance: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Collect every library's versions over all stages; more than one means that the run was made in pieces."""
    found: dict[str, set[str]] = {}
    for record in provenance.values():
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, set()).add(str(version))
    return found
