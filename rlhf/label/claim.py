"""One process at a time labels under a machine's name: two would pay twice, and contradict one another."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf.core.artifacts import explained
from rlhf.core.errors import UserError


@contextmanager
def claimed(folder: Path, annotator: str, labels: Path) -> Iterator[None]:
    """Hold an annotator's name while the block runs, by a lock in `folder` that ends with the process.

    Raises:
        UserError: another process holds it, for the same folder of labels.
    """
    path = folder / "labelling" / f"{annotator}.lock"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"label: another process labels as {annotator} into {labels}; wait for it, or give another --annotator"
            ) from None
        yield
    finally:
        os.close(descriptor)
