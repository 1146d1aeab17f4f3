"""Append answers to a file so that none is ever lost: on disk before the next question, whole after a kill."""

import contextlib
import fcntl
import json
import os
from pathlib import Path

from rlhf.core.artifacts import explained
from rlhf.core.errors import UserError
from rlhf.labels.record import NAME, NAME_RULE, Label, line_of


def label_file(folder: Path, kind: str, annotator: str) -> Path:
    """Name an annotator's file. Raises UserError where the name is none, such as one with a path in it."""
    if not NAME.fullmatch(annotator):
        raise UserError(f"label: annotator {annotator!r:.80}: a name has {NAME_RULE}")
    return folder / f"{kind}-{annotator}.jsonl"


def append(folder: Path, label: Label) -> None:
    """Append a label to its annotator's file and wait until it is on disk.

    One writer at a time: others wait. What a kill has left of a last line is put aside in a file ending in .broken.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is half written then.
    """
    path = label_file(folder, label.kind, label.annotator)
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = _mended(descriptor, path)
            line = line_of(label).encode()
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(28, os.strerror(28))
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
            _sync_folder(folder)
        finally:
            os.close(descriptor)


def _mended(descriptor: int, path: Path) -> int:
    """Make a file end in a whole line; return its length in bytes."""
    end = os.fstat(descriptor).st_size
    if not end or os.pread(descriptor, 1, end - 1) == b"\n":
        return end
    data = path.read_bytes()
    kept = data.rfind(b"\n") + 1
    try:
        json.loads(data[kept:])
    except (ValueError, RecursionError):
        with path.with_suffix(".broken").open("ab") as aside:
            aside.write(data[kept:] + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        os.ftruncate(descriptor, kept)
        return kept
    os.write(descriptor, b"\n")  # a whole line that lacks its end: an editor's
    return end + 1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
