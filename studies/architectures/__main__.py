"""`make conformance-sweep`: every causal architecture of the installed transformers, tiny and random, against itself.

    python -m studies.architectures [KIND ...]

Each is made, copied by base and checked by conformance in a process of its own; what was accepted is measured again by
other code, padded and unpadded, sampled and trained, with an adapter on attention, MLP and head. Writes
benchmarks/results/architectures.{json,md} (all kinds). Half an hour on one core.
"""

import multiprocessing
import queue
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_json, write_text
from studies.architectures.tables import table

RESULTS = Path("benchmarks/results")
_LIMIT_S = 300  # a model; tiny ones take seconds


def main() -> None:
    """Try the kinds named on the command line, or all of them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    import studies.architectures.trial  # noqa: F401 - once, for the processes to come

    asked = sys.argv[1:]
    rows = [tried(kind) for kind in asked or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)]
    if not asked:
        write(rows)
    if wrong := [row["kind"] for row in rows if row["wrong"]]:
        sys.exit(f"accepted and wrong, or refused in more than a line: {', '.join(wrong)}")


def tried(kind: str) -> dict[str, Any]:
    """Try one kind in a process of its own, so that nothing it does can end the sweep."""
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_work, args=(kind, Path(folder), answers))
        process.start()
        try:
            row: dict[str, Any] = answers.get(timeout=_LIMIT_S)
        except queue.Empty:
            row = {"kind": kind, "engine": None, "refused": f"not tried: no answer in {_LIMIT_S} s", "adapter": None}
            row |= {"gap": None, "wrong": None}
            process.kill()
        process.join()
    print(f"{kind}: {row['wrong'] or row['refused'] or row['engine']} | {row['adapter']}", flush=True)
    return row


def _work(kind: str, folder: Path, answers: Any) -> None:
    import traceback

    import torch
    from transformers.utils import logging

    from studies.architectures.trial import Result, attempt

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    try:
        row = attempt(kind, folder).row()
    except BaseException as error:
        traceback.print_exc()
        row = Result(kind, None, None, None, None, f"{type(error).__name__}: {error}"[:300]).row()
    answers.put(row)


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the results and their table."""
    libraries = {name: version(name) for name in ("transformers", "peft", "torch")}
    write_json(RESULTS / "architectures.json", {"libraries": libraries, "rows": list(rows)})
    write_text(RESULTS / "architectures.md", table(rows, libraries) + "\n")


if __name__ == "__main__":
    main()
