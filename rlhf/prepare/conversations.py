"""Turn rows that hold conversations into comparisons: `messages` ({"role", "content"}) and `conversations` ({"from",
"value"}, as ShareGPT has them)."""

from collections.abc import Mapping
from dataclasses import replace

from rlhf.core.conversation import Turn
from rlhf.prepare.columns import Columns
from rlhf.prepare.dialogues import column_prompt, not_listed, prompt_text
from rlhf.prepare.finish import compared, needed
from rlhf.prepare.notes import Notes
from rlhf.prepare.replies import check_reply, check_text, visible
from rlhf.prepare.rows import Comparison, Prompt, RawRow, RuleBroken
from rlhf.prepare.turns import Said, is_conversation, read_turns, turns_before_reply

_NAMES = {
    "system": "a system turn",
    "user": "a user's turn",
    "assistant": "an assistant's turn",
    "tool": "a tool's turn",
}


def asked_and_answered(
    row: RawRow, columns: Columns, replies: Mapping[str, object], notes: Notes
) -> tuple[Prompt, list[str]]:
    """Read the prompt of a row, and the replies to it, by the name of each.

    The turns before the reply may stand in a column of their own, inside each reply's conversation, or in both; the
    reply is the last turn, and an assistant's. Where all is plain text, so is the prompt.

    Raises:
        RuleBroken: any rule that a row can break.
    """
    name = columns.prompt or (None if any(map(turns_before_reply, replies.values())) else columns.conversation)
    value = needed(row.values, name) if name else None
    if not any(_is_structure(one) for one in (value, *replies.values())):
        not_listed(value, replies.values())
        return column_prompt(row, columns), [check_reply(key, reply) for key, reply in replies.items()]
    asked = []
    if name and isinstance(value, str) and not _is_structure(value):
        asked = [Said("user", prompt_text(row, replace(columns, prompt=name)), is_call=False, where=name)]
    elif name and value is not None:
        asked = read_turns(name, value, notes)
    divided = {key: split_reply(key, reply, notes) for key, reply in replies.items()}
    first, before = next((key, turns) for key, (turns, _) in divided.items())
    for key, (turns, _) in divided.items():
        _same_before(first, before, key, turns)
    said = [reply for _, reply in divided.values()]
    if isinstance(value, str) and not _is_structure(value) and not before:
        return column_prompt(row, replace(columns, prompt=name)), said  # a text, which may be a dialogue
    turns = joined(name or "prompt", asked, first, before)
    system = needed(row.values, columns.system) if columns.system else None
    return checked(with_system(system, turns), name or first, notes), said


def conversation_pair(row: RawRow, columns: Columns, notes: Notes) -> Comparison:
    """Make a comparison of the conversations, turns or texts in `chosen` and `rejected`.

    Raises:
        RuleBroken: any rule that a row can break.
    """
    names = (columns.chosen or "chosen", columns.rejected or "rejected")
    replies = {name: needed(row.values, name) for name in names}
    prompt, (chosen, rejected) = asked_and_answered(row, columns, replies, notes)
    return compared(row, prompt, chosen, rejected, columns)


def split_reply(name: str, value: object, notes: Notes) -> tuple[list[Said], str]:
    """Divide a conversation, or a bare text, into the turns before the reply and the reply.

    Raises:
        RuleBroken: no_assistant (it is empty, or ends in another's turn), tool_reply, or a rule on replies.
    """
    if not _is_structure(value):
        return [], check_reply(name, value)
    said = read_turns(name, value, notes)
    if not said:
        raise RuleBroken("no_assistant", f"{name}: an empty conversation")
    last = said[-1]
    if last.is_call or last.role == "tool":
        raise RuleBroken(
            "tool_reply", f"{last.where}: the last turn is {'a call of a tool' if last.is_call else 'a tool answer'}"
        )
    if last.role != "assistant":
        raise RuleBroken("no_assistant", f"{last.where}: the last turn is {_NAMES[last.role]}, not the assistant's")
    return said[:-1], check_reply(f"{last.where}.content", last.content)


def joined(prompt_name: str, asked: list[Said], reply_name: str, before: list[Said]) -> list[Said]:
    """Put together the prompt of its own column and the turns before the reply, one of which may repeat the other.

    Raises:
        RuleBroken: mismatched_prompt; both hold turns, and they do not agree.
    """
    if not before or not asked:
        return before or asked
    ours, theirs = _plain(asked), _plain(before)
    heads = [turn for turn in theirs if turn[0] == "system"]
    if theirs[: len(ours)] == ours or theirs == [*heads, *ours]:
        return before
    if ours[-len(theirs) :] == theirs:
        return asked
    if asked[-1].role != "user" and before[0].role == "user" and not set(ours) & set(theirs):
        return [*asked, *before]
    raise RuleBroken(
        "mismatched_prompt",
        f"{prompt_name} and the turns of {reply_name} before the reply do not agree: "
        f"{ours[-1][1]!r:.40} against {theirs[-1][1]!r:.40}",
    )


def with_system(system: object, turns: list[Said]) -> list[Said]:
    """Put a system prompt that has a column of its own before the turns, unless they begin with it.

    Raises:
        RuleBroken: it is no text, or the turns begin with another one.
    """
    if system is None or (isinstance(system, str) and not system.strip()):
        return turns
    text = check_text("system", system)
    if turns and turns[0].role == "system":
        if (turns[0].content or "").strip() == text.strip():
            return turns
        raise RuleBroken("mismatched_prompt", "the system column and the conversation's own system turn differ")
    return [Said("system", text, is_call=False, where="system"), *turns]


def checked(said: list[Said], name: str, notes: Notes) -> tuple[Turn, ...]:
    """Check the turns of a prompt.

    Raises:
        RuleBroken: empty_prompt, where nobody asks anything; turn_order, where a system turn does not come first or the
            last turn before the reply is the assistant's.
    """
    turns = tuple(one.turn() for one in said)
    if not any(visible(turn.content) for turn in turns if turn.role == "user"):
        raise RuleBroken("empty_prompt", f"{name}: no turn of a user with text in it before the reply")
    late = next((one for at, one in enumerate(said) if one.role == "system" and at > 0), None)
    if late:
        raise RuleBroken("turn_order", f"{late.where}: a system turn after the first turn")
    if turns[-1].role == "assistant":
        raise RuleBroken("turn_order", f"{said[-1].where}: the turn before the reply is the assistant's own")
    if tools := sum(one.role == "tool" or one.is_call for one in said):
        notes.count("turns of tools kept in prompts", tools)
    return turns


def _is_structure(value: object) -> bool:
    return isinstance(value, list | dict) or is_conversation(value)


def _plain(said: list[Said]) -> list[tuple[str, str]]:
    return [(one.role, (one.content or "").strip()) for one in said]


def _same_before(one: str, ours: list[Said], other: str, theirs: list[Said]) -> None:
    if _plain(ours) == _plain(theirs):
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if _plain([a]) != _plain([b])),
        min(len(ours), len(theirs)),
    )
    raise RuleBroken(
        "mismatched_prompt", f"{one} and {other} differ before the last turn, from turn {at} on (counted from 0)"
    )
