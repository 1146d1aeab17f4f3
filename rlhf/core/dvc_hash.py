"""Hash files and folders as dvc.lock has them (DVC 3)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from rlhf.core.provenance import files_of


def dvc_md5(path: Path) -> str:
    """Compute the hash that dvc.lock has for this file or folder."""
    return file_md5(path) if path.is_file() else folder_md5(file_md5s(path))


def file_md5(path: Path) -> str:
    """Compute the MD5 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def file_md5s(folder: Path, *, leave_out: Callable[[Path], bool] = lambda _: False) -> dict[str, str]:
    """Compute the MD5 of each file below a folder, by its name there; files for which `leave_out` is true do not
    count."""
    return {file.relative_to(folder).as_posix(): file_md5(file) for file in files_of(folder) if not leave_out(file)}


def folder_md5(files: Mapping[str, str]) -> str:
    """Compute a folder's hash from those of its files: the MD5 of the JSON list of names and MD5s, in the order of the
    names, with `.dir` appended."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return f"{hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"
