"""Render the report as Markdown: texts and short tables; figures and long tables are in the page."""

from collections.abc import Iterator

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
    match block:
        case Status(text=text, items=items):
            return "\n".join([f"**{text}**", *([""] if items else []), *(f"- {item}" for item in items)])
        case Facts(items):
            rows = [(one.label, one.value, one.interval or "–", one.remark) for one in items]
            return "\n".join(_table(Table(("", "value", "95 % interval", ""), rows, "Headline numbers")))
        case Text(text):
            return text
        case Notice(text):
            return f"> **{text}**"
        case Points(items, title):
            return "\n".join([*([f"{title}:", ""] if title else []), *(f"- {item}" for item in items)])
        case Table(short=True):
            return "\n".join(_table(block))
        case Samples(samples=samples):
            return "\n\n".join(_sample(one) for one in samples[:SAMPLES])
    return ""  # a figure, or a long table


def _table(table: Table) -> Iterator[str]:
    yield f"{table.caption}:\n"
    yield "| " + " | ".join(map(cell, table.head)) + " |"
    yield "|" + "---|" * len(table.head)
    for row in table.rows:
        yield "| " + " | ".join(map(cell, row)) + " |"


def cell(text: str) -> str:
    """Escape what would end a table's cell."""
    return " ".join(text.replace("|", "\\|").split())


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
