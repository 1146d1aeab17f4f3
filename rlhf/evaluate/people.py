"""People as judges: a sheet that does not say whose response is whose, to be filled in and read back.

write_sheet(folder, duels, ("ppo", "sft"), seed=0)   # sheet.csv for the judge, key.json for nobody
read_sheet(filled, folder / "key.json").metrics("eval_people_")
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlhf.core.artifacts import read_json, write_json, write_text
from rlhf.core.errors import UserError
from rlhf.core.seeding import rng
from rlhf.core.stats import tied_rate

COLUMNS = ("id", "prompt", "response_1", "response_2", "better")
CHOICES = ("1", "2", "tie")


class Asked(NamedTuple):
    """Two policies' responses to one prompt."""

    prompt: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Filled:
    """What a person said. `outcomes` are for the first policy, by row id: 1, 0, or one half for a tie."""

    policies: tuple[str, str]
    outcomes: dict[str, float]
    blank: int  # rows that were left open

    def metrics(self, prefix: str) -> dict[str, object]:
        """`<prefix>winrate` of the first policy with Tango's interval (None where nothing was filled in), `judged` and
        `blank` rows."""
        counts: dict[str, object] = {f"{prefix}judged": len(self.outcomes), f"{prefix}blank": self.blank}
        if not self.outcomes:
            return counts | {f"{prefix}winrate": None}
        return counts | tied_rate(list(self.outcomes.values())).named(f"{prefix}winrate")


def write_sheet(folder: Path, asked: Sequence[Asked], policies: tuple[str, str], seed: int) -> None:
    """Write sheet.csv, with rows and responses in an order drawn by the seed, and key.json, which tells them apart.

    In the column `better` a person writes 1, 2 or tie; a row left open is not counted. Pairs of equal responses are
    left out: there is nothing to see.
    """
    draw = rng(seed, "people", *policies)
    rows, key = [], {}
    for place, one in enumerate(asked):
        if one.first == one.second:
            continue
        swapped = draw.random() < 0.5
        shown = (one.second, one.first) if swapped else (one.first, one.second)
        name = f"{place:04d}-{_digest(one.prompt, *shown)}"
        key[name] = 2 if swapped else 1
        rows.append((name, *(_cell(text) for text in (one.prompt, *shown)), ""))
    draw.shuffle(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_text(folder / "sheet.csv", "\ufeff" + text.getvalue())  # the mark tells spreadsheets that it is UTF-8
    write_json(folder / "key.json", {"policies": list(policies), "first_is": key})


def read_sheet(sheet: Path, key: Path) -> Filled:
    """Read a sheet that a person filled in; spreadsheets' semicolons are allowed, order and further columns are free.

    Raises:
        UserError: file:line, what was found and what is allowed: no such file, not CSV, a column is missing, an id that
            the key does not know or that stands there twice, or an answer that is none of 1, 2, tie.
    """
    held = read_json(key)
    try:
        policies, first_is = (held["policies"][0], held["policies"][1]), held["first_is"]
    except (KeyError, IndexError, TypeError):
        raise UserError(f"{key}: not the key of a sheet: expected policies and first_is") from None
    outcomes: dict[str, float] = {}
    seen: dict[str, int] = {}
    for line, name, better in _answers(sheet):
        if name not in first_is:
            raise UserError(f"{sheet}:{line}: id {name!r:.60} is not in {key}")
        if name in seen:
            raise UserError(f"{sheet}:{line}: id {name} stands on line {seen[name]} already")
        seen[name] = line
        if better not in (*CHOICES, ""):
            raise UserError(f"{sheet}:{line}: better: found {better!r:.60}; allowed are 1, 2, tie, or nothing")
        if better:
            outcomes[name] = 0.5 if better == "tie" else float(int(better) == first_is[name])
    return Filled(policies, outcomes, len(first_is) - len(outcomes))


def _answers(sheet: Path) -> Iterator[tuple[int, str, str]]:
    """(line on which the row ends, id, answer in lower case) of each row."""
    try:
        text = sheet.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{sheet}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{sheet}: not UTF-8 at byte {error.start}; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",", strict=True)
    try:
        missing = [name for name in ("id", "better") if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{sheet}:1: no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
        for row in reader:
            if row["better"] is None or None in row:
                raise UserError(f"{sheet}:{reader.line_num}: the row has more or fewer fields than the header")
            yield reader.line_num, row["id"].strip(), row["better"].strip().lower()
    except csv.Error as error:
        raise UserError(f"{sheet}:{reader.line_num}: not CSV: {error}") from None


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = text.strip().encode("utf-8", "replace").decode()
    return f" {text}" if text.startswith(("=", "+", "-", "@")) else text


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:8]
