"""Preferences of real people, made ready for the studies on a real model."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_jsonl, write_jsonl
from rlhf.core.errors import UserError
from studies.run import ROOT

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def shared(name: str) -> Path:
    """Find a data set in the folder that RLHF_SHARED_DATA names.

    Raises:
        UserError: it is not there.
    """
    home = Path(os.environ.get("RLHF_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (home / name).is_file():
        raise UserError(f"{home / name}: not there, so nothing is measured on it; RLHF_SHARED_DATA names the folder")
    return home / name


def cut_short(source: Path, target: Path, *, words: int) -> Path:
    """Write pairs of the last question of each dialogue alone and its two replies, cut after `words` words.

    Questions that occur twice are kept once. Nothing is written again that is the same already.
    """
    rows: dict[str, dict[str, Any]] = {}
    for chosen, rejected in _dialogues(source):
        question, reply = _last_turn(chosen)
        other, worse = _last_turn(rejected)
        better, worse = (" ".join(text.split()[:words]) for text in (reply, worse))
        if question and question == other and better and worse and better != worse:
            rows.setdefault(question, {"prompt": question, "chosen": better, "rejected": worse})
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or read_jsonl(target) != list(rows.values()):
        write_jsonl(target, list(rows.values()))
    return target


def _dialogues(source: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
                yield row["chosen"], row["rejected"]


def _last_turn(dialogue: str) -> tuple[str, str]:
    """The last question and the reply to it."""
    asked, _, reply = dialogue.rpartition(ASSISTANT)
    return asked.rpartition(HUMAN)[2].strip(), reply.strip()
