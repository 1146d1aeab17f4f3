"""Turn raw rows into preference pairs: HH dialogues, and files with named columns."""

from rlhf.prepare.params import ColumnParams
from rlhf.prepare.rows import BadRow, Comparison, RawRow
from rlhf.prepare.templates import ASSISTANT


def hh_pair(row: RawRow) -> Comparison | BadRow:
    """Split a pair of whole dialogues, `chosen` and `rejected`, that differ only after the LAST "\\n\\nAssistant:"."""
    texts = _texts(row, ("chosen", "rejected"))
    if isinstance(texts, BadRow):
        return texts
    prompts, replies = [], []
    for name, dialogue in zip(("chosen", "rejected"), texts, strict=True):
        before, marker, reply = dialogue.rpartition(ASSISTANT)
        if not marker:
            return BadRow(row.origin, "no_assistant", f'{name}: no "\\n\\nAssistant:" in it', dict(row.values))
        prompts.append(before + marker)
        replies.append(reply)
    if prompts[0] != prompts[1]:
        reason = 'chosen and rejected differ before the last "\\n\\nAssistant:"'
        return BadRow(row.origin, "mismatched_prompt", reason, dict(row.values))
    return _pair(row, prompts[0], replies[0], replies[1])


def column_pair(row: RawRow, columns: ColumnParams) -> Comparison | BadRow:
    """Make a comparison from named columns, texts as they are.

    Text in the `extra` column, where one is named and not empty, follows the prompt after a blank line.
    """
    texts = _texts(row, (columns.prompt, columns.chosen, columns.rejected))
    if isinstance(texts, BadRow):
        return texts
    prompt, chosen, rejected = texts
    if columns.extra is not None:
        extra = _texts(row, (columns.extra,))
        if isinstance(extra, BadRow):
            return extra
        prompt = "\n\n".join(part.strip() for part in (prompt, *extra) if part.strip())
    if not prompt.strip():
        return BadRow(row.origin, "empty_prompt", f"{columns.prompt}: empty", dict(row.values))
    return _pair(row, prompt, chosen, rejected)


def _texts(row: RawRow, names: tuple[str, ...]) -> tuple[str, ...] | BadRow:
    """The named columns, all of them text that can be encoded."""
    found = []
    for name in names:
        if name not in row.values:
            reason = f"no column {name!r}; found {', '.join(map(str, sorted(row.values)))}"
            return BadRow(row.origin, "missing_column", reason, dict(row.values))
        value = row.values[name]
        if not isinstance(value, str):
            reason = f"{name}: expected text, found {value!r:.60} ({type(value).__name__})"
            return BadRow(row.origin, "wrong_type", reason, dict(row.values))
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            reason = f"{name}: character {error.start} is half of a surrogate pair, or was not UTF-8"
            return BadRow(row.origin, "not_utf8", reason, _printable(row))
        found.append(value)
    return tuple(found)


def _pair(row: RawRow, prompt: str, chosen: str, rejected: str) -> Comparison | BadRow:
    """The rules that hold for every form."""
    for name, reply in (("chosen", chosen), ("rejected", rejected)):
        if not reply.strip():
            return BadRow(row.origin, "empty_reply", f"{name}: the reply is empty", dict(row.values))
    if chosen.strip() == rejected.strip():
        return BadRow(row.origin, "tie", "chosen and rejected are the same reply", dict(row.values))
    kind, annotator = row.values.get("kind"), row.values.get("annotator")
    return Comparison(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        origin=row.origin,
        kind=kind if isinstance(kind, str) else None,
        annotator=annotator if isinstance(annotator, str) and annotator else None,
    )


def _printable(row: RawRow) -> dict[str, str]:
    return {str(name): str(value).encode("utf-8", "replace").decode() for name, value in row.values.items()}
