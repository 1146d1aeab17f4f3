"""Find which column holds what: by the names in `data.columns`, or else by names that such columns usually have."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlhf.core.errors import UserError
from rlhf.prepare.params import ColumnParams
from rlhf.prepare.sides import find_sides

USUAL: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "input", "post"),
    "conversation": ("conversations", "conversation", "messages"),
    "system": ("system", "system_prompt"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response"),
    "reply": ("completion", "response", "output", "reply", "answer", "generation"),
    "label": ("label", "desirable", "thumbs_up", "kto_tag"),
    "replies": ("responses", "completions", "replies", "answers", "outputs", "candidates", "generations", "summaries"),
    "ranks": ("ranks", "rank"),
    "score": ("score", "scores", "rating", "ratings", "reward", "rewards"),
    "winner": ("winner", "preference", "preferred", "choice", "better", "better_response"),
    "weight": ("weight",),
    "margin": ("margin",),
    "annotator": ("annotator", "annotator_id", "worker", "worker_id", "labeler", "rater"),
}
SIGNED = ("preference_strength", "overall_preference")  # HelpSteer's winners: below 0 the first reply is the better
_TWO = re.compile(
    r"(response|answer|output|completion|reply|summary|text|conversation|generation|candidate)(a|b|0|1|2)"
)
_SUFFIXES = (("a", "b"), ("1", "2"), ("0", "1"))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file by what they hold; None where there is none. A dotted name leads into a nested value."""

    prompt: str | None = None
    conversation: str | None = None
    extra: str | None = None
    system: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    reply: str | None = None
    label: str | None = None
    first: str | None = None
    second: str | None = None
    replies: str | None = None
    ranks: str | None = None
    score: str | None = None
    winner: str | None = None
    winner_first: str | None = None  # a flag or a score of its own for each reply, where there is no winner
    winner_second: str | None = None
    winner_tie: str | None = None
    weight: str | None = None
    margin: str | None = None
    annotator: str | None = None
    rivals: Mapping[str, tuple[str, ...]] | None = None  # roles for which several columns have a usual name

    def named(self, role: str) -> str | None:
        """Return the column of a role."""
        found: str | None = getattr(self, role)
        return found


ROLES_OF_COLUMNS = tuple(role for role in Columns.__dataclass_fields__ if role != "rivals")


def value_of(values: Mapping[str, object], name: str) -> object:
    """Return a column's value; a dotted name that is no column leads into nested values.

    Raises:
        KeyError: there is no such column.
    """
    if name in values:
        return values[name]
    found: object = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise KeyError(name)
        found = found[part]
    return found


def _has(values: Mapping[str, object], name: str) -> bool:
    try:
        value_of(values, name)
    except KeyError:
        return False
    return True


def find_columns(rows: Iterable[Mapping[str, object]], given: ColumnParams) -> Columns:
    """Find the columns of these rows. A name that is given is taken as it is, whether the rows have it or not."""
    rows = list(rows)
    present = list(dict.fromkeys(str(name) for row in rows for name in row))
    found: dict[str, str | None] = {}
    rivals: dict[str, tuple[str, ...]] = {}
    for role, usual in USUAL.items():
        asked = getattr(given, role, None)
        candidates = [asked] if asked else _matching(present, usual)
        if role == "prompt" and not candidates:
            candidates = _nested(rows, usual)
        if role == "prompt" and not asked and {_plain(one) for one in candidates} == {"instruction", "input"}:
            found["extra"] = next(one for one in candidates if _plain(one) == "input")  # the usual form of instructions
            candidates = [one for one in candidates if _plain(one) == "instruction"]
        if len(candidates) > 1 and any(sum(_has(row, name) for name in candidates) > 1 for row in rows):
            rivals[role] = tuple(candidates)  # of other files of a folder, the rows will be found to lack the first
        found[role] = candidates[0] if candidates else None
    found["extra"] = given.extra or found.get("extra")
    found["first"], found["second"] = _two(present, given, rivals)
    if not found["winner"] and (sides := find_sides(present, found["first"])):
        found["winner_first"], found["winner_second"], found["winner_tie"] = sides
    elif not found["winner"]:
        found["winner"] = next(iter(_matching(present, SIGNED)), None)
    return Columns(**found, rivals=rivals)


def refuse_rivals(columns: Columns, roles: Iterable[str], where: str) -> None:
    """Raise UserError where one of these roles could be held by several columns."""
    for role in roles:
        names = (columns.rivals or {}).get(role)
        if names:
            key = f"data.columns.{role}" if role in ColumnParams.model_fields else "data.columns.prompt"
            raise UserError(f"{where}: {role}: the columns {_listed(names)} could each hold it; name one with {key}")


def refuse_unread(given: ColumnParams, columns: Columns, form: str, where: str) -> None:
    """Raise UserError where a name in `data.columns` is of no use to the form, or stands for two things."""
    names = {role: name for role in ColumnParams.model_fields if (name := getattr(given, role))}
    for role, name in names.items():
        if columns.named(role) is None:
            raise UserError(
                f"{where}: data.columns.{role}: found {name!r}, but rows of the form {form!r} have no place for it; "
                "set it to null, or data.format to a form that reads it (docs/own-data.md)"
            )
        twice = [other for other in ROLES_OF_COLUMNS if other != role and columns.named(other) == name]
        if twice:
            raise UserError(f"{where}: data.columns.{role}: {name!r} is the column of {twice[0]} too")


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r}"


def _matching(present: list[str], usual: tuple[str, ...]) -> list[str]:
    """Columns with a usual name, in the order of these; case and the white space around do not matter."""
    return [one for name in usual for one in present if _plain(one) == name]


def _plain(name: str) -> str:
    return name.rsplit(".", 1)[-1].strip().strip("\ufeff").lower()


def _nested(rows: list[Mapping[str, object]], usual: tuple[str, ...]) -> list[str]:
    """Usual names one level down, as `info.post`."""
    inner = dict.fromkeys(
        f"{name}.{key}" for row in rows for name, value in row.items() if isinstance(value, Mapping) for key in value
    )
    return _matching(list(inner), usual)


def _two(present: list[str], given: ColumnParams, rivals: dict[str, tuple[str, ...]]) -> tuple[str | None, str | None]:
    """The two replies that a winner is chosen from, as response_a and response_b, or output_1 and output_2."""
    if given.first or given.second:
        return given.first, given.second
    families: dict[str, dict[str, str]] = {}
    for name in present:
        match = _TWO.fullmatch(re.sub(r"[\s_.-]", "", name.lower()))
        if match:
            families.setdefault(match[1], {})[match[2]] = name
    pairs = [(family[a], family[b]) for family in families.values() for a, b in _SUFFIXES if set(family) == {a, b}]
    if len(pairs) > 1:
        rivals["first"] = tuple(first for first, _ in pairs)
    return pairs[0] if pairs else (None, None)
