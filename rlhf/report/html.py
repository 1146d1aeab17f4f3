"""The report as one HTML page that needs nothing else: style, script and figures are in it."""

import re
from pathlib import Path

from rlhf.report.content import Figure, Notice, Points, Report, Samples, Table, Text

TEMPLATES = Path(__file__).with_name("templates")
KINDS = {Text: "text", Notice: "notice", Points: "points", Table: "table", Figure: "figure", Samples: "samples"}


def html(report: Report) -> str:
    """The page. Everything that a model or a file has said is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    environment.tests["figure"] = lambda block: isinstance(block, Figure)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    page = environment.get_template("page.html")
    return page.render(
        report=report,
        kind=lambda block: KINDS[type(block)],
        points=lambda block: block.items,
        style=_safe(style),
        script=_safe(script),
        safe=_safe,
    )


def inline(text: str) -> object:
    """Escaped text in which `code` between backticks is code."""
    from markupsafe import escape

    return _safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _safe(text: str) -> object:
    """Text of our own making."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our files and drawings, or escaped just before
