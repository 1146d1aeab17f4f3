"""Writing it all: the page, the Markdown and the cards."""

from rlhf.core.artifacts import atomic_dir, write_text
from rlhf.core.layout import Layout
from rlhf.report.build import build
from rlhf.report.cards import cards
from rlhf.report.html import html
from rlhf.report.inputs import Inputs
from rlhf.report.markdown import markdown
from rlhf.report.params import ReportParams


def write_report(run: Inputs, params: ReportParams, at: Layout) -> None:
    """Write reports/index.html, reports/report.md and reports/cards/<model>.md; equal inputs give equal bytes."""
    report = build(run, params)
    page, text = html(report), markdown(report)
    write_text(at.reports / "index.html", page)
    write_text(at.reports / "report.md", text)
    with atomic_dir(at.reports / "cards") as folder:
        for name, card in cards(run).items():
            write_text(folder / f"{name}.md", card)
