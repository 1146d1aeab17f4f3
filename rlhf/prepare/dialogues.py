"""Turn rows into comparisons: HH dialogues, and files with named columns. A template writes them as text later."""

from collections.abc import Iterable

from rlhf.core.conversation import Turn
from rlhf.prepare.columns import Columns
from rlhf.prepare.finish import compared, needed
from rlhf.prepare.literals import as_list, looks_printed
from rlhf.prepare.replies import check_reply, check_text, visible
from rlhf.prepare.rows import Comparison, Prompt, RawRow, RuleBroken
from rlhf.prepare.spellings import spelled
from rlhf.prepare.templates import ASSISTANT, HUMAN
from rlhf.prepare.turns import is_conversation, looks_like_turns


def hh_pair(row: RawRow, columns: Columns) -> Comparison:
    """Split a pair of whole dialogues, `chosen` and `rejected`, that differ only after the LAST "\\n\\nAssistant:".

    Raises:
        RuleBroken: any rule that a row can break.
    """
    names = (columns.chosen or "chosen", columns.rejected or "rejected")
    prompts, replies = [], []
    for name in names:
        before, marker, reply = check_reply(name, needed(row.values, name)).rpartition(ASSISTANT)
        if not marker:
            raise RuleBroken("no_assistant", f'{name}: no "\\n\\nAssistant:" in it')
        prompts.append(before + marker)
        replies.append(reply)
    if not visible(prompts[0].replace(HUMAN, "").replace(ASSISTANT, "")):
        raise RuleBroken("empty_prompt", f"{names[0]}: nobody says anything before the reply")
    if prompts[0] != prompts[1]:
        raise RuleBroken("mismatched_prompt", f'{names[0]} and {names[1]} differ before the last "\\n\\nAssistant:"')
    return compared(row, prompts[0], replies[0], replies[1], columns)


def column_pair(row: RawRow, columns: Columns) -> Comparison:
    """Make a comparison from named columns. Text in the `extra` column, where one is named and not empty, follows the
    prompt after a blank line.

    Raises:
        RuleBroken: any rule that a row can break.
    """
    names = (columns.chosen or "chosen", columns.rejected or "rejected")
    chosen, rejected = (needed(row.values, name) for name in names)
    for name, value in zip(names, (chosen, rejected), strict=True):
        _not_written_out(name, value)
    prompt = column_prompt(row, columns)
    not_listed(row.values.get(columns.prompt or "prompt"), (chosen, rejected))
    return compared(row, prompt, chosen, rejected, columns)


def column_prompt(row: RawRow, columns: Columns) -> Prompt:
    """Read the prompt from its column, with `extra` after it and the system prompt before it, where there are any.

    Raises:
        RuleBroken: missing_column, wrong_type, not_utf8, empty_prompt or unclear_dialogue.
    """
    prompt = prompt_text(row, columns)
    system = needed(row.values, columns.system) if columns.system else None
    if system is None or not check_text(str(columns.system), system).strip():
        return prompt
    if prompt.rstrip().endswith(ASSISTANT):
        return str(system).strip() + prompt  # a dialogue already, which begins with a blank line
    found = spelled(prompt)
    if found is None:
        return Turn("system", str(system)), Turn("user", prompt)
    if found.unclear is not None:
        raise RuleBroken("unclear_dialogue", f"{columns.prompt or 'prompt'}: {found.unclear}")
    return Turn("system", str(system)), *found.turns


def prompt_text(row: RawRow, columns: Columns) -> str:
    """Read the prompt from its column, with `extra` after it.

    Raises:
        RuleBroken: missing_column, wrong_type, not_utf8 or empty_prompt.
    """
    name = columns.prompt or "prompt"
    prompt = check_text(name, needed(row.values, name))
    _not_written_out(name, prompt)
    if columns.extra is not None:
        extra = needed(row.values, columns.extra)
        added = "" if extra is None else check_text(columns.extra, extra)
        prompt = "\n\n".join(part.strip() for part in (prompt, added) if part.strip())
    if not visible(prompt):
        raise RuleBroken("empty_prompt", f"{name}: empty")
    return prompt


def not_listed(prompt: object, replies: Iterable[object]) -> None:
    """Refuse a row whose prompt and replies are lists of texts, written out as text: the brackets would be learnt.

    Raises:
        RuleBroken: wrong_type.
    """
    if all(map(_is_listed, (prompt, *replies))):
        raise RuleBroken(
            "wrong_type",
            f"{str(prompt)!r:.60}: prompt and replies are lists of texts, written out as text; write the texts "
            "themselves, or a conversation of turns where there are several",
        )


def _is_listed(value: object) -> bool:
    found = as_list(value) if isinstance(value, str) else None
    return bool(found) and all(isinstance(one, str) for one in found or ())


def _not_written_out(name: str, value: object) -> None:
    if looks_like_turns(value):
        lost = " (a list as numpy prints it, which has lost its commas: save as JSON lines or Parquet)"
        hint = lost if looks_printed(value) and not is_conversation(value) else ""
        raise RuleBroken("wrong_type", f"{name}: a conversation written out as text, where a text is expected{hint}")
