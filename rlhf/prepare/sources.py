"""Pairs from whatever source the parameters name."""

from collections.abc import Iterator
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.prepare.dialogues import HUMAN, as_dialogue, column_pair, hh_pair
from rlhf.prepare.hub import hub_rows
from rlhf.prepare.params import DataParams
from rlhf.prepare.ranked import ranking_pairs
from rlhf.prepare.readers import OOD_FILE, find_files, read_rows
from rlhf.prepare.rows import BadRow, Pair, RawRow
from rlhf.synthetic.task import labelled_pairs, ood_prompts


def read_pairs(data: DataParams, seed: int) -> Iterator[Pair | BadRow]:
    """Every row of the source, as a pair or as a bad row; nothing is left out. A ranking is as many rows as it holds
    preferences.

    Raises:
        UserError: there is no such file, dataset or commit.
    """
    if data.source == "synthetic":
        for number, made in enumerate(labelled_pairs(data.synthetic, seed), start=1):
            turns = made.prompt.count(HUMAN)
            origin = f"synthetic:{number}"
            yield Pair(made.prompt, made.chosen, made.rejected, origin, made.kind, turns, made.probability)
        return
    for row in _raw_rows(data):
        if isinstance(row, BadRow):
            yield row
        elif data.format == "hh":
            yield hh_pair(row)
        elif data.format == "rankings":
            yield from ranking_pairs(row, data.prompt_template)
        else:
            yield column_pair(row, data.columns, data.prompt_template)


def read_ood(data: DataParams, seed: int) -> list[tuple[str, str]]:
    """(prompt, kind) from outside the distribution: made for the synthetic task, else the file ood.jsonl in a folder of
    preferences, rows {"prompt": ...} with an optional "kind"; none where there is no such file.

    Raises:
        UserError: a row of that file has no prompt.
    """
    if data.source == "synthetic":
        return ood_prompts(data.synthetic, seed)
    path = Path(data.path) / OOD_FILE
    if data.source != "files" or not path.is_file():
        return []
    found = []
    for number, row in iter_jsonl(path):
        prompt = row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f'{path}:{number}: expected {{"prompt": text}}, found {prompt!r:.60}')
        found.append((as_dialogue(prompt, data.prompt_template), str(row.get("kind", "ood"))))
    return found


def _raw_rows(data: DataParams) -> Iterator[RawRow | BadRow]:
    if data.source == "hub":
        yield from hub_rows(data.hub)
        return
    for file in find_files(Path(data.path)):
        yield from read_rows(file)
