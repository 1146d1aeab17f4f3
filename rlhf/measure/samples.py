"""Write responses side by side, for machines (JSONL) and for readers (Markdown)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf.core.artifacts import write_jsonl, write_text
from rlhf.measure.responses import Responses

Row = dict[str, object]


def side_by_side(responses: Mapping[str, Responses], count: int, shown: Mapping[str, str] | None = None) -> list[Row]:
    """List the first `count` prompts with each policy's response, whether it ended, its reward and (if known) its gold
    reward: keys prompt, <policy>, <policy>_ended, <policy>_reward, <policy>_gold. Prompts are as `shown` has them: a
    conversation as turns under their roles."""
    first = next(iter(responses.values()))
    rows: list[Row] = []
    for index, prompt in enumerate([s.prompt for s in first.samples[:count]]):
        row: Row = {"prompt": (shown or {}).get(prompt, prompt)}
        for name, given in responses.items():
            row[name] = given.samples[index].response
            row[f"{name}_ended"] = given.samples[index].ended
            row[f"{name}_reward"] = given.rewards[index]
            row[f"{name}_gold"] = None if given.golds is None else given.golds[index]
        rows.append(row)
    return rows


def markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Format a table: prompt, then for each policy its response with reward (and gold) behind it."""
    head = ["#", "prompt", *names]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for number, row in enumerate(rows, start=1):
        cells = [str(number), cell(str(row["prompt"])), *(_answer(row, name) for name in names)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Escape a text so that it stays in its table cell and shows as it is: Markdown and HTML signs, line ends as
    <br>."""
    text = text.strip().replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "|`*_[]~#$":
        text = text.replace(sign, "\\" + sign)
    return "<br>".join(" ".join(line.split()) for line in text.splitlines())


def write_samples(folder: Path, rows: Sequence[Row], names: Sequence[str], title: str) -> None:
    """Write samples.jsonl and samples.md."""
    write_jsonl(folder / "samples.jsonl", rows)
    note = "Behind each response: reward, gold reward where known, and … where it was cut off at the length limit."
    write_text(folder / "samples.md", f"# {title}\n\n{note}\n\n{markdown(rows, names)}")


def _answer(row: Row, name: str) -> str:
    text = cell(str(row[name])) or "(empty)"
    scores = [f"{row[key]:.2f}" for key in (f"{name}_reward", f"{name}_gold") if row[key] is not None]
    return f"{text}{'' if row[f'{name}_ended'] else ' …'} ({', '.join(scores)})"
