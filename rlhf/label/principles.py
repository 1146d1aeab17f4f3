"""Read a constitution: the principles by which answers are criticised and revised, in a YAML file of the user's."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.yaml import read_yaml

DEFAULT = Path(__file__).with_name("templates") / "constitution.yaml"
FIELDS = ("name", "critique", "revision")
MOST, LONGEST = 100, 2000  # principles; characters of a request
LARGEST = 1 << 20  # bytes of a file
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,39}")


@dataclass(frozen=True, slots=True)
class Principle:
    """A name, what asks for a critique of an answer, and what asks for its revision."""

    name: str
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class Constitution:
    """Principles, at least one, each name once."""

    principles: tuple[Principle, ...]

    @property
    def digest(self) -> str:
        """Eight hex digits of the SHA-256 of all principles."""
        return hashlib.sha256(json.dumps([asdict(one) for one in self.principles]).encode()).hexdigest()[:8]


def read_constitution(path: Path) -> Constitution:
    """Read a constitution.

    Raises:
        UserError: one line; the file is no YAML, or the key, what was found there and what is allowed.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        raise UserError(f"{path}: longer than {LARGEST >> 20} MiB; a constitution has at most {MOST} principles")
    values = read_yaml(path)
    _keys(f"{path}", values, ("principles",))
    rows = values["principles"]
    if not isinstance(rows, list) or not rows:
        found = "an empty list" if rows == [] else type(rows).__name__
        raise UserError(f"{path}: principles: found {found}; a list of at least one principle is needed")
    if len(rows) > MOST:
        raise UserError(f"{path}: principles: found {len(rows)}; at most {MOST} are allowed")
    principles = tuple(_principle(f"{path}: principles.{number}", row) for number, row in enumerate(rows, start=1))
    names = [one.name for one in principles]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UserError(f"{path}: principles.{number + 1}: the name {name!r} stands there twice")
    return Constitution(principles)


def _principle(where: str, row: object) -> Principle:
    if not isinstance(row, dict):
        raise UserError(f"{where}: found {type(row).__name__}; {', '.join(FIELDS)} are needed")
    _keys(where, row, FIELDS)
    for name, text in row.items():
        if not isinstance(text, str):
            raise UserError(
                f"{where}.{name}: found {type(text).__name__}; text is needed, in quotes where YAML has another mind"
            )
        if not text.strip() or len(text) > LONGEST:
            raise UserError(f"{where}.{name}: found {len(text.strip())} characters; 1 to {LONGEST} are allowed")
    if not _NAME.fullmatch(row["name"]):
        raise UserError(
            f"{where}.name: found {row['name']!r:.60}; letters, digits, blanks, - and _ are allowed, at most 40"
        )
    return Principle(*(row[name].strip() for name in FIELDS))


def _keys(where: str, values: Mapping[Any, object], allowed: tuple[str, ...]) -> None:
    for name in allowed:
        if name not in values:
            raise UserError(f"{where}: {name} is missing")
    for key in values:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r:.60}; known here: {', '.join(allowed)}")
