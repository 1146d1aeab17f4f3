"""Recognise the form of rows: which of the forms in `data.format` they fit, and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rlhf.core.errors import UserError
from rlhf.prepare.columns import (
    ROLES_OF_COLUMNS,
    USUAL,
    Columns,
    find_columns,
    refuse_rivals,
    refuse_unread,
    value_of,
)
from rlhf.prepare.literals import as_label, as_list, as_number
from rlhf.prepare.params import ColumnParams
from rlhf.prepare.rows import RuleBroken
from rlhf.prepare.turns import is_conversation, role_key, turns_before_reply

Values = Mapping[str, object]

_SCORES = ("score", "rating", "overall_score", "reward")  # inside a reply
_MARKER = "Assistant:"
_LOOKED_AT = 200  # rows
_ROLE_WORDS = {
    "chosen": "the better reply (data.columns.chosen)", "rejected": "the worse reply (data.columns.rejected)",
    "winner": "the winner (data.columns.winner)",
    "first": "two replies (data.columns.first and second, or a list in data.columns.replies)",
}  # fmt: skip
# The roles of the columns that each form reads; those that a row must have are its first ones.
ROLES = {
    "hh": ("chosen", "rejected"),
    "pairs": ("chosen", "rejected", "prompt"),
    "messages": ("chosen", "rejected"),
    "conversations": ("chosen", "rejected"),
    "unpaired": ("label", "reply"),
    "winner": ("winner", "first"),
    "ratings": ("score", "replies", "reply"),
    "rankings": ("replies", "ranks"),
}
FORMS = (
    "hh: whole dialogues in chosen and rejected", "pairs: prompt, chosen, rejected",
    "messages or conversations: turns in chosen and rejected", "unpaired: a reply and a true/false label",
    "winner: two replies and which is better", "ratings: replies with scores", "rankings: responses and ranks",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read: the form, its columns, and the reason in words."""

    format: str
    columns: Columns
    why: str


def recognise(rows: Sequence[Values], given: ColumnParams, where: str) -> Reading:
    """Find the one form that the rows fit.

    Args:
        rows: the first rows of the source.
        given: names of columns that the user has set.
        where: the file or dataset, for errors.

    Raises:
        UserError: no form fits, or several do: each is named, and how to choose.
    """
    columns = find_columns(rows, given)
    found = fitting(rows, columns)
    if len(found) == 1:
        (name,) = found
        return _reading(name, rows, columns, given, where, why=found[name])
    if not found:
        lacking = "".join(f" {one}." for one in lacks(rows, columns))
        raise UserError(f"{where}: data.format: auto: the rows fit no form.{lacking} {described(rows)}. {_known()}")
    readings = "; ".join(f"{name} ({why})" for name, why in found.items())
    keys = " or ".join(f"data.format={name}" for name in found)
    raise UserError(
        f"{where}: data.format: auto: the rows can be read in {len(found)} ways: {readings}. Choose with {keys}"
    )


def read_as(name: str, rows: Sequence[Values], given: ColumnParams, where: str) -> Reading:
    """Read the rows as the form that the user has set.

    Raises:
        UserError: several columns could hold the same thing, or a name in data.columns is of no use.
    """
    return _reading(name, rows, find_columns(rows, given), given, where, why="data.format says so")


def _reading(
    name: str, rows: Sequence[Values], columns: Columns, given: ColumnParams, where: str, *, why: str
) -> Reading:
    refuse_rivals(columns, _needed_roles(name, rows, columns), where)
    kept = narrowed(name, columns, given, rows)
    refuse_unread(given, kept, name, where)
    return Reading(name, kept, why)


def narrowed(name: str, columns: Columns, given: ColumnParams, rows: Sequence[Values]) -> Columns:
    """Keep the columns that the form reads, so that all others count as not used."""
    kept = {*ROLES[name], "second", "prompt", "extra", "conversation", "system", "weight", "margin", "annotator"}
    if name == "hh":
        kept -= {"prompt", "extra", "conversation", "system"}
    if name in ("unpaired", "ratings") and columns.reply and not (name == "ratings" and columns.replies):
        kept -= {"weight", "margin"}  # of single replies, which the form does not know how to pass on to pairs
    if name in ("messages", "conversations") and columns.chosen:
        if columns.prompt or _share(rows, columns.chosen, turns_before_reply) == 1:
            kept -= {"conversation"}
        if name == "conversations" and columns.conversation and not given.prompt:
            kept = kept - {"prompt"} | {"conversation"}
    asked_apart = columns.prompt if name != "unpaired" else columns.reply
    if asked_apart and name not in ("messages", "conversations"):
        kept -= {"conversation"}
    if name == "winner":
        kept |= {"winner_first", "winner_second", "winner_tie"} | (set() if columns.first else {"replies"})
    if name == "ratings" and columns.replies:
        kept -= {"reply"}
    unread = dict.fromkeys(role for role in (*ROLES_OF_COLUMNS, "rivals") if role not in kept)
    return replace(columns, **unread)


def fitting(rows: Sequence[Values], columns: Columns) -> dict[str, str]:
    """Return the forms that fit, and why."""
    look = rows[:_LOOKED_AT]
    columns = replace(columns, **dict.fromkeys(absent(look, columns)))
    found: dict[str, str] = {}
    chosen, rejected = columns.chosen, columns.rejected
    if chosen and rejected:
        found |= _of_two_replies(look, columns, chosen, rejected)
    talk = _share(look, columns.conversation, is_conversation) if columns.conversation else 0.0
    one_reply = bool(columns.reply and columns.prompt) or talk > 0
    if columns.label and one_reply and _share(look, columns.label, _is_label) == 1:
        found["unpaired"] = f"one reply a row, and {columns.label!r} is true or false"
    if columns.winner and columns.first:
        found["winner"] = (
            f"{columns.first!r} and {columns.second!r} are replies, and {columns.winner!r} names the better"
        )
    elif columns.winner_first and columns.first:
        found["winner"] = (
            f"{columns.first!r} and {columns.second!r} are replies, and {columns.winner_first!r} and "
            f"{columns.winner_second!r} say which is the better"
        )
    elif columns.winner and columns.replies and _share(look, columns.replies, _is_two) == 1:
        found["winner"] = f"{columns.replies!r} holds two replies, and {columns.winner!r} names the better"
    if columns.replies and columns.ranks and _share(look, columns.replies, _is_list) > 0:
        found["rankings"] = f"{columns.replies!r} are replies, and {columns.ranks!r} their ranks"
    inside = [value for row in look for value in as_list(_value(row, columns.replies)) or []] if columns.replies else []
    if not (columns.ranks or columns.score) and _all_have(inside, USUAL["ranks"]) and not _all_have(inside, _SCORES):
        found["rankings"] = f"{columns.replies!r} are replies, and inside each its rank"
    if columns.replies and (inner := _rated(look, columns, inside)):
        found["ratings"] = f"{columns.replies!r} are replies, and {inner} their scores"
    elif columns.reply and columns.prompt and columns.score and _share(look, columns.score, _is_number) == 1:
        found["ratings"] = f"one reply a row, and {columns.score!r} is its score"
    return found


def absent(rows: Sequence[Values], columns: Columns) -> list[str]:
    """Return the roles whose columns no row has, as where a name in data.columns is misspelt."""
    roles = [role for role in ROLES_OF_COLUMNS if columns.named(role)]
    return [role for role in roles if not any(_has(row, str(columns.named(role))) for row in rows)]


def _has(row: Values, name: str) -> bool:
    try:
        value_of(row, name)
    except KeyError:
        return False
    return True


def _of_two_replies(look: Sequence[Values], columns: Columns, chosen: str, rejected: str) -> dict[str, str]:
    turns = max(_share(look, name, is_conversation) for name in (chosen, rejected))
    prompt = columns.prompt or columns.conversation
    asked = prompt is not None and _share(look, prompt, is_conversation) > 0
    if turns or asked:
        name = chosen if turns else str(prompt)
        key = next((role_key(value) for row in look if is_conversation(value := _value(row, name))), "role")
        form = "conversations" if key == "from" else "messages"
        return {form: f"{name!r} holds turns with {key!r}"}
    found = {}
    marked = min(_share(look, name, _has_marker) for name in (chosen, rejected))
    repeated = columns.prompt is not None and all(_begins_with_prompt(row, columns) for row in look)
    if marked and (columns.prompt is None or repeated):
        found["hh"] = f"{chosen!r} and {rejected!r} are whole dialogues with {_MARKER!r} in them"
    if columns.prompt and _share(look, chosen, _is_text) > 0:
        found["pairs"] = f"{columns.prompt!r} is the prompt, {chosen!r} and {rejected!r} are replies"
    return found


def _begins_with_prompt(row: Values, columns: Columns) -> bool:
    prompt, chosen = _value(row, str(columns.prompt)), _value(row, str(columns.chosen))
    return isinstance(prompt, str) and isinstance(chosen, str) and chosen.strip().startswith(prompt.strip())


def _rated(look: Sequence[Values], columns: Columns, inside: Sequence[object]) -> str | None:
    """Name the scores of listed replies: a list of numbers beside them, or one inside each."""
    if columns.score and _share(look, columns.score, _is_numbers) > 0:
        return repr(columns.score)
    return "inside each" if _all_have(inside, _SCORES) else None


def _all_have(inside: Sequence[object], keys: Sequence[str]) -> bool:
    return bool(inside) and all(isinstance(one, Mapping) and any(key in one for key in keys) for one in inside)


def _needed_roles(name: str, rows: Sequence[Values], columns: Columns) -> tuple[str, ...]:
    if name in ("messages", "conversations"):
        alone = columns.prompt if name == "messages" else columns.conversation
        return (*ROLES[name], "prompt" if alone and name == "messages" else "conversation")
    if name == "ratings":
        return ("prompt", "score", "replies" if columns.replies else "reply")
    if name == "unpaired":
        return ("label", "prompt", "reply") if columns.reply else ("label", "conversation")
    return ROLES[name] if name == "hh" else (*ROLES[name], "prompt")


def lacks(rows: Sequence[Values], columns: Columns) -> list[str]:
    """Say what keeps the rows from a form that they nearly have."""
    missing = absent(rows, columns)
    found = [f"data.columns.{role} names {columns.named(role)!r}, which no row has" for role in missing]
    columns = replace(columns, **dict.fromkeys(missing))
    if columns.chosen and columns.rejected and not columns.prompt:
        found.append(
            f"There are {columns.chosen!r} and {columns.rejected!r}, but no prompt (a column "
            f"{', '.join(USUAL['prompt'])}, or the name in data.columns.prompt), and no {_MARKER!r} in the texts "
            "before which it could stand"
        )
    for role, other in (("chosen", "rejected"), ("rejected", "chosen"), ("winner", "first"), ("first", "winner")):
        if columns.named(role) and not columns.named(other):
            found.append(f"There is {columns.named(role)!r}, but no column for {_ROLE_WORDS[other]}")
    if columns.reply and columns.prompt and not (columns.label or columns.score):
        numbers = [
            name for name in dict.fromkeys(str(n) for row in rows for n in row) if _share(rows, name, _is_number) == 1
        ]
        named = f" (numbers are in {', '.join(map(repr, numbers[:8]))})" if numbers else ""
        found.append(
            f"There is one reply a row, {columns.reply!r}, but no column for its score (data.columns.score) or its "
            f"true/false label (data.columns.label){named}"
        )
    for role, read in (("label", as_label), ("score", as_number)):
        name = columns.named(role)
        wrong = next((value for row in rows if name and not _passes(read)(value := _value(row, name))), None)
        if name and wrong is not None:
            try:
                read(name, wrong)
            except RuleBroken as broken:
                found.append(broken.reason)
    return found


def described(rows: Sequence[Values]) -> str:
    """Say which columns the rows have, and what these hold."""
    names = list(dict.fromkeys(str(name) for row in rows[:_LOOKED_AT] for name in row))
    shown = [f"{name!r} ({_kind(rows, name)})" for name in names[:12]]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"Their columns: {', '.join(shown)}{more}"


def _known() -> str:
    return (
        f"Known are {'; '.join(FORMS)}. data.columns names the columns where they have other names (docs/own-data.md)"
    )


def _kind(rows: Sequence[Values], name: str) -> str:
    value = next((row[name] for row in rows if row.get(name) not in (None, "")), None)
    if is_conversation(value):
        return "conversation" if not isinstance(value, str) else "conversation as text"
    if isinstance(value, Mapping):
        return f"keys {', '.join(list(map(str, value))[:5])}"
    names = {str: "text", bool: "true/false", int: "number", float: "number", list: "list", type(None): "empty"}
    return names.get(type(value), type(value).__name__)


def _value(row: Values, name: str) -> object:
    try:
        return value_of(row, name)
    except KeyError:
        return None


def _share(rows: Sequence[Values], name: str, test: Callable[[object], bool]) -> float:
    """The share of rows with a value in the column that pass the test; 0 where there is none."""
    values = [value for row in rows if (value := _value(row, name)) is not None]
    return sum(map(test, values)) / len(values) if values else 0.0


def _passes(check: Callable[[str, object], object]) -> Callable[[object], bool]:
    """Make a test of whether a reader of values accepts one."""

    def test(value: object) -> bool:
        try:
            check("", value)
        except RuleBroken:
            return False
        return True

    return test


_is_label, _is_number = _passes(as_label), _passes(as_number)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _has_marker(value: object) -> bool:
    return isinstance(value, str) and _MARKER in value


def _is_list(value: object) -> bool:
    return as_list(value) is not None


def _is_two(value: object) -> bool:
    found = as_list(value)
    return found is not None and len(found) == 2


def _is_numbers(value: object) -> bool:
    found = as_list(value)
    return bool(found) and all(map(_is_number, found or ()))
