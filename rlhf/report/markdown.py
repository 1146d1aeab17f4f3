"""Render the report as Markdown: texts and short tables; figures and long tables are in the page."""

from collections.abc import Sequence

from rlhf.core.text import markdown_cell
from rlhf.report.content import Block, Facts, Notice, Points, Report, Sample, Samples, Status, Table, Text

SAMPLES = 3  # shown here; the page has all


def markdown(report: Report) -> str:
    """Render one text that ends in a newline."""
    parts = [f"# {report.title}"]
    for number, section in enumerate(report.sections):
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks if (text := _block(block))]
        if number == 0:
            parts.append("Figures, all parameters, all hashes and all samples are in `index.html` beside this file.")
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    """Render a block; figures and long tables are empty."""
    match block:
        case Status(text=text, items=items):
            text = "\n\n".join([f"**{text}**", *([_list(items)] if items else [])])
        case Facts(items):
            rows = [(one.label, one.value, one.interval or "–", one.remark) for one in items]
            text = _table(Table(("", "value", "95 % interval", ""), rows, "Headline numbers"))
        case Text(text):
            pass
        case Notice(text):
            text = f"> **{text}**"
        case Points(items, title):
            text = "\n\n".join([*([f"{title}:"] if title else []), _list(items)])
        case Table(short=True):
            text = _table(block)
        case Samples(samples=samples):
            text = "\n\n".join(_sample(one) for one in samples[:SAMPLES])
        case _:
            text = ""
    return text


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(table: Table) -> str:
    rows = [table.head, *table.rows]
    lines = ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(table.head))
    return f"{table.caption}:\n\n" + "\n".join(lines)


def _sample(sample: Sample) -> str:
    lines = [f"> {' / '.join(line for line in map(str.strip, _plain(sample.prompt).splitlines()) if line)}", ""]
    for one in sample.answers:
        text = " ".join(_plain(one.text).split()) or "(empty)"
        lines.append(f"- {one.policy}: {text}{'' if one.ended else ' …'} ({', '.join(one.scores)})")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Escape a model's words: nothing in them is Markdown or HTML."""
    text = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "|`*_[]~#$":
        text = text.replace(sign, "\\" + sign)
    return text
