"""Where everything came from: hashes as in dvc.lock for what the report has read, and each model's provenance."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def dvc_md5(path: Path) -> str:
    """The hash that dvc.lock has for this file or folder.

    A file's is the MD5 of its bytes; a folder's that of the JSON list of its files' names and MD5s, in the order of
    their names, with `.dir` behind it (DVC 3).
    """
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    names = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    entries = [{"md5": dvc_md5(file), "relpath": name} for name, file in names]
    return f"{hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def read_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """(name, hash as in dvc.lock) of each file or folder that is there, by name."""
    return [(path.as_posix(), dvc_md5(path)) for path in sorted(set(paths)) if path.exists()]


def made_of(provenance: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(stage, input or output, name, SHA-256) of every model-making stage, in the order given."""
    rows = []
    for stage, record in provenance.items():
        for role in ("inputs", "outputs"):
            rows += [(stage, role[:-1], name, digest) for name, digest in sorted(record.get(role, {}).items())]
    return rows


def libraries(provenance: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Every library's versions over all stages; more than one means that the run was made in pieces."""
    found: dict[str, set[str]] = {}
    for record in provenance.values():
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, set()).add(str(version))
    return found
