"""Know the DVC command that runs this stage, and whether an earlier stage of the same command has begun it.

`dvc repro` and `dvc exp run` run one stage after the other; what the user does meanwhile in the workspace is for the
next time. DVC says who runs a stage in .dvc/tmp/rwlock, with the process's number.
"""

import contextlib
import json
import os
from pathlib import Path

MARK = Path(".dvc/tmp/rlhf_chain.json")  # [process, its start], of the command whose start was checked last
LOCKS = Path(".dvc/tmp/rwlock")


def command() -> list[float] | None:
    """Find DVC's process above this one: its number, and when it was started (numbers are used again, in containers
    above all). None for a stage that is run by hand."""
    if "DVC_STAGE" not in os.environ:
        return None
    import psutil

    try:
        writers = {holder["pid"] for holder in json.loads(LOCKS.read_text(encoding="utf-8"))["write"].values()}
        for parent in psutil.Process().parents():
            if parent.pid in writers:
                return [parent.pid, parent.create_time()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, psutil.Error):
        return None
    return None


def begun() -> bool:
    """Say whether an earlier stage of the DVC command that runs this one has left its mark."""
    now = command()
    try:
        return now is not None and bool(json.loads(MARK.read_text(encoding="utf-8")) == now)
    except (OSError, ValueError):
        return False


def mark() -> None:
    """Leave the mark of the DVC command that runs this stage; by hand, none."""
    if (now := command()) is not None:
        with contextlib.suppress(OSError):  # then the next stage checks once more
            MARK.write_text(json.dumps(now), encoding="utf-8")
