"""Render the report as one HTML page that needs nothing else: style, script and figures are in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.report.content import Block, Facts, Figure, Notice, Points, Report, Samples, Section, Status, Table, Text

TEMPLATES = Path(__file__).with_name("templates")
KINDS = {
    Status: "status", Facts: "facts", Text: "text", Notice: "notice", Points: "points", Table: "table",
    Figure: "figure", Samples: "samples",
}  # fmt: skip
NARROW = 64  # letters in a row: such a table has room beside text
WORDS = 130  # of text are about as high as a figure beside it


@dataclass(frozen=True, slots=True)
class Arranged:
    """A section's blocks by where they go: across the top, a column of text, beside it, and across below."""

    top: Sequence[Block]
    prose: Sequence[Block]
    beside: Sequence[Block]
    below: Sequence[Block]
    figures: Sequence[Figure]  # those that do not fit beside the text, in a grid


def html(report: Report) -> str:
    """Render the page. Everything that a model or a file has said is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        title=report.title,
        sections=[(section, arrange(section)) for section in report.sections],
        kind=lambda block: KINDS[type(block)],
        style=_safe(style),
        script=_safe(script),
        safe=_safe,
    )


def arrange(section: Section) -> Arranged:
    """Sort a section's blocks into columns: figures beside text, as many as the text is high, else narrow tables."""
    top = [block for block in section.blocks if isinstance(block, Status | Facts)]
    prose = [block for block in section.blocks if isinstance(block, Text | Notice | Points)]
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    narrow = [block for block in section.blocks if isinstance(block, Table) and block.short and _fits(block)]
    below = [
        block
        for block in section.blocks
        if isinstance(block, Table | Samples) and not any(block is one for one in narrow)
    ]
    if not figures:
        return Arranged(top, prose, narrow, below, [])
    fitting = max(1, round(sum(map(_words, [*prose, *narrow])) / WORDS))
    fitting += len(figures) - fitting == 1  # a single one left over looks lost
    return Arranged(top, [*prose, *narrow], figures[:fitting], below, figures[fitting:])


def _fits(table: Table) -> bool:
    return sum(max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)) <= NARROW


def _words(block: Block) -> int:
    """Count words, a table's row as a line of ten."""
    match block:
        case Text(text) | Notice(text):
            return len(text.split())
        case Points(items):
            return sum(len(item.split()) for item in items)
        case Table(rows=rows):
            return 10 * (1 + len(rows))
    return 0


def inline(text: str) -> object:
    """Escape text and mark `code` between backticks as code."""
    from markupsafe import escape

    return _safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _safe(text: str) -> object:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our files and drawings, or escaped just before
