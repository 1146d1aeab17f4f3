"""Let people judge: write a blind sheet of two policies' responses, and read filled-in ones back.

sheet = make_sheet(asked, ("ppo", "sft"), seed=0)
sheet.write(folder)  # people.csv for the judges; people_key.json, which they must not see
sheet.count(read_sheets(Path("inputs/people"))).metrics("eval_people_")
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlhf.core import sheets
from rlhf.core.artifacts import write_json, write_text
from rlhf.core.errors import UserError
from rlhf.core.inputs import input_files
from rlhf.core.seeding import rng
from rlhf.core.stats import tied_rate
from rlhf.core.text import printable

COLUMNS = ("id", "prompt", "response_1", "response_2", "better")
CHOICES = ("1", "2", "tie")
LONGEST_CELL = 32_000  # characters: spreadsheet programs cut a cell off a little above


class Asked(NamedTuple):
    """Two policies' responses to one prompt."""

    prompt: str
    first: str
    second: str


class SheetAnswer(NamedTuple):
    """A person's entry in a row: 1, 2, tie, or nothing."""

    origin: str  # file:line
    better: str
    texts: tuple[str, ...] = ()  # prompt and responses beside it, where the sheet still has them


@dataclass(frozen=True, slots=True)
class Filled:
    """Judgements of all people. `outcomes` are for the first policy, by row id: 1, 0, or one half for a tie."""

    people: int
    outcomes: dict[str, float]
    blank: int  # rows that all left open
    identical: int  # prompts that stand on no sheet, since both responses are the same

    def metrics(self, prefix: str) -> dict[str, object]:
        """Compute `<prefix>winrate` of the first policy with Tango's interval (None where nothing was filled in), and
        count `sheets` that were read, `judged`, `blank` and `identical` prompts."""
        counts: dict[str, object] = {
            f"{prefix}sheets": self.people,
            f"{prefix}judged": len(self.outcomes),
            f"{prefix}blank": self.blank,
            f"{prefix}identical": self.identical,
        }
        if not self.outcomes:
            return counts | {f"{prefix}winrate": None}
        return counts | tied_rate(list(self.outcomes.values())).named(f"{prefix}winrate")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows and responses in an order drawn by the seed, and the key that tells the responses apart."""

    policies: tuple[str, str]
    rows: list[tuple[str, ...]]  # by COLUMNS
    first_is: dict[str, int]  # by id: the response, 1 or 2, that is the first policy's
    identical: int

    def write(self, folder: Path) -> None:
        """Write people.csv, and apart from it people_key.json."""
        text = sheets.write_rows(COLUMNS, self.rows)
        write_text(folder / "people.csv", "\ufeff" + text)  # the mark tells spreadsheets that it is UTF-8
        write_json(folder / "people_key.json", {"policies": list(self.policies), "first_is": self.first_is})

    def count(self, filled: Sequence[dict[str, SheetAnswer]]) -> Filled:
        """Count filled-in sheets, one a person: the majority of those who answered a row, a tie where there is none.

        Raises:
            UserError: file:line; a row is not on this sheet, or its texts are those of another row.
        """
        leaning: dict[str, int] = {}
        texts = {row[0]: row[1:4] for row in self.rows}
        for sheet in filled:
            for name, answer in sheet.items():
                if name not in self.first_is:
                    raise UserError(
                        f"{answer.origin}: id {name!r:.60} is not on this run's sheet (artifacts/evaluate/people.csv): "
                        "the row is of other responses"
                    )
                if not all(map(_same, answer.texts, texts[name])):
                    raise UserError(
                        f"{answer.origin}: the texts beside id {name} are those of another row: was a column sorted by "
                        "itself? Each answer must stand beside the responses that it is about"
                    )
                if answer.better:
                    vote = 0 if answer.better == "tie" else 1 if int(answer.better) == self.first_is[name] else -1
                    leaning[name] = leaning.get(name, 0) + vote
        outcomes = {name: 0.5 if votes == 0 else float(votes > 0) for name, votes in leaning.items()}
        return Filled(len(filled), outcomes, len(self.first_is) - len(outcomes), self.identical)


def make_sheet(asked: Sequence[Asked], policies: tuple[str, str], seed: int) -> Sheet:
    """Make a sheet for `asked`. In the column `better` a person writes 1, 2 or tie; a row left open is not counted.

    Pairs of equal responses are left out: there is nothing to see.
    """
    draw = rng(seed, "people", *policies)
    rows, first_is = [], {}
    for index, one in enumerate(asked):
        if one.first == one.second:
            continue
        swapped = draw.random() < 0.5
        shown = (one.second, one.first) if swapped else (one.first, one.second)
        name = f"{index:04d}-{_digest(one.prompt, *shown)}"
        first_is[name] = 2 if swapped else 1
        rows.append((name, *(_shown(text) for text in (one.prompt, *shown)), ""))
    draw.shuffle(rows)
    return Sheet(policies, rows, first_is, len(asked) - len(rows))


def read_sheets(path: Path) -> list[dict[str, SheetAnswer]]:
    """Read the answers by row id of a sheet that was filled in, or of each `.csv` in a folder; an empty folder has
    none.

    Raises:
        UserError: nothing is at `path`, something in the folder is no `.csv`, or as `read_sheet`.
    """
    return [read_sheet(file) for file in input_files(path, (".csv",), key="evaluate.people.path")]


def read_sheet(path: Path) -> dict[str, SheetAnswer]:
    """Read the answers on one sheet, in any form that spreadsheet programs save (`rlhf.core.sheets`); order and further
    columns are free.

    Raises:
        UserError: file:line, what was found and what is allowed: not CSV, a column is missing, an id that stands there
            twice, or an answer that is none of 1, 2, tie.
    """
    found: dict[str, SheetAnswer] = {}
    for line, fields in sheets.read_rows(path, ("id", "better")):
        name, better = fields["id"].strip(), _answer(fields["better"])
        if name in found:
            raise UserError(f"{path}:{line}: id {name} stands on line {found[name].origin.rpartition(':')[2]} already")
        if better not in (*CHOICES, ""):
            raise UserError(f"{path}:{line}: better: found {fields['better']!r:.60}; allowed are 1, 2, tie, or nothing")
        shown = tuple(fields[column] for column in COLUMNS[1:4]) if set(COLUMNS) <= set(fields) else ()
        found[name] = SheetAnswer(f"{path}:{line}", better, shown)
    return found


def _answer(text: str) -> str:
    """Read an entry as it was meant: in any case, from a keyboard with wide digits, from a column of decimals."""
    said = unicodedata.normalize("NFKC", text).strip().strip("'").lower()
    return found[1] if (found := re.fullmatch(r"([12])[.,]0+", said)) else said


def _same(shown: str, own: str) -> bool:
    """Say whether a cell holds a row's text, but for what spreadsheet programs change: blanks, line ends, quotes, and
    the end of what is too long for a cell."""
    found, expected = _letters(shown), _letters(own)
    return found == expected or (len(shown) > LONGEST_CELL and expected.startswith(found))


def _letters(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKC", text) if sign.isalnum())


def _shown(text: str) -> str:
    """Strip a text, and show what would command a terminal or reorder a line; its line ends stay as they are."""
    return "\r".join(printable(part, lines=True) for part in text.strip().split("\r"))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:8]
