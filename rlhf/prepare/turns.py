"""Read conversations: lists of {"role", "content"} or {"from", "value"}, in the spellings in which people have them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.core.conversation import Turn
from rlhf.prepare.literals import as_structure, looks_printed
from rlhf.prepare.notes import Notes
from rlhf.prepare.replies import check_text
from rlhf.prepare.rows import RuleBroken

_CALL = "call"  # an assistant's turn that calls a tool
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "chatbot": "assistant", "model": "assistant",
    "chatgpt": "assistant", "ai": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
    "function_response": "tool",
    "function_call": _CALL, "tool_call": _CALL, "tool_calls": _CALL,
}  # fmt: skip
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")
_CALL_KEYS = ("tool_calls", "function_call")
_KNOWN = {*_ROLE_KEYS, *_CONTENT_KEYS, *_CALL_KEYS}
_WRITTEN = re.compile(r"""["'](role|from)["']\s*:.*["'](content|value)["']\s*:""", re.DOTALL)
_TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True, slots=True)
class Said:
    """A turn as it was read, with its place in the row for errors. `content` of None: the row holds null."""

    role: str
    content: str | None
    is_call: bool
    where: str

    def turn(self) -> Turn:
        """Return the turn of a prompt.

        Raises:
            RuleBroken: wrong_type; its content is null.
        """
        if self.content is None:
            raise RuleBroken("wrong_type", f"{self.where}.content: expected text, found None (null)")
        return Turn(self.role, self.content)


def is_conversation(value: object) -> bool:
    """Tell whether a value is a turn, or a list of turns, also where a text holds it."""
    found = as_structure(value)
    if isinstance(found, Mapping):
        return _key(found, _ROLE_KEYS) is not None and _key(found, (*_CONTENT_KEYS, *_CALL_KEYS)) is not None
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(one, Mapping) and is_conversation(one) for one in found)
    )


def looks_like_turns(value: object) -> bool:
    """Tell whether a text is a conversation written out, also one that cannot be read back."""
    return isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and bool(_WRITTEN.search(value))


def turns_before_reply(value: object) -> bool:
    """Tell whether a reply is a conversation of several turns."""
    found = as_structure(value)
    return isinstance(found, list) and len(found) > 1 and is_conversation(found)


def role_key(value: object) -> str | None:
    """Return "role" or "from", as the first turn of a conversation has it."""
    found = as_structure(value)
    first = found[0] if isinstance(found, list) and found else found
    return _key(first, _ROLE_KEYS) if isinstance(first, Mapping) else None


def read_turns(name: str, value: object, notes: Notes) -> list[Said]:
    """Read a turn or a list of turns.

    Raises:
        RuleBroken: the value is no conversation, a role is unknown, or content is no text: with the place in the row.
    """
    found = as_structure(value)
    if isinstance(found, Mapping):
        found = _rows_of_columns(found)
    if not isinstance(found, list):
        hint = (
            "; a list as numpy prints it has lost its commas: save as JSON lines or Parquet"
            if looks_printed(value)
            else ""
        )
        raise RuleBroken(
            "wrong_type", f"{name}: expected a list of turns, found {value!r:.60} ({type(value).__name__}){hint}"
        )
    return [_said(f"{name}[{index}]", one, notes) for index, one in enumerate(found)]


def _rows_of_columns(found: Mapping[object, object]) -> list[object]:
    """Make a list of one turn; or of the turns that are kept as {"role": [...], "content": [...]}."""
    columns = {key: column for key, column in found.items() if isinstance(column, list)}
    role = _key(columns, _ROLE_KEYS)
    if role is None:
        return [found]
    sizes = {len(column) for column in columns.values()}
    return (
        [{key: column[index] for key, column in columns.items()} for index in range(min(sizes))]
        if len(sizes) == 1
        else [found]
    )


def _said(where: str, one: object, notes: Notes) -> Said:
    if not isinstance(one, Mapping):
        raise RuleBroken(
            "wrong_type", f'{where}: expected a turn as {{"role", "content"}}, found {one!r:.60} ({type(one).__name__})'
        )
    role_at, content_at = _key(one, _ROLE_KEYS), _key(one, _CONTENT_KEYS)
    calls = one.get("tool_calls") or one.get("function_call")
    if role_at is None or (content_at is None and not calls):
        raise RuleBroken(
            "wrong_type",
            f'{where}: expected a turn as {{"role", "content"}} or {{"from", "value"}}, found {sorted(map(str, one))}',
        )
    role = one[role_at]
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RuleBroken(
            "wrong_type", f"{where}.{role_at}: expected one of {', '.join(sorted(ROLES))}; found {role!r:.60}"
        )
    for key in sorted(str(key) for key in one if key not in _KNOWN and one[key] not in (None, "", [])):
        notes.say(f"turns of conversations also have {key!r}, which is not used")
    content = _content(f"{where}.{content_at}", one[content_at]) if content_at else None
    is_call = known == _CALL or bool(calls)
    if calls:
        content = "\n".join(part for part in (content, json.dumps(calls, ensure_ascii=False)) if part)
    return Said("assistant" if known == _CALL else known, content, is_call, where)


def _content(where: str, value: object) -> str | None:
    """Return content that is text, or parts that are text, joined as they stand."""
    if value is None:
        return None
    if isinstance(value, str):
        return check_text(where, value)
    parts = [value] if isinstance(value, Mapping) else value
    if not isinstance(parts, list):
        raise RuleBroken(
            "wrong_type", f"{where}: expected text or parts of text, found {value!r:.60} ({type(value).__name__})"
        )
    return "".join(_part(f"{where}[{index}]", part) for index, part in enumerate(parts))


def _part(where: str, part: object) -> str:
    if isinstance(part, str):
        return check_text(where, part)
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
        raise RuleBroken("wrong_type", f"{where}: a part of type {kind!r:.40}; only parts of text are read")
    return check_text(where, part["text"])


def _key(one: Mapping[object, object], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in one), None)
