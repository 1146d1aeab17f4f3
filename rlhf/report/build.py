"""Build the report, write it, and say which verdicts fail the pipeline (`evaluate.fail_on`)."""

from rlhf.core.artifacts import atomic_dir, write_text
from rlhf.core.layout import Layout
from rlhf.report.cards import cards
from rlhf.report.content import Report, Table
from rlhf.report.costs import costs, sizes
from rlhf.report.data import data
from rlhf.report.evaluation import evaluation
from rlhf.report.fallback_notice import with_notices
from rlhf.report.html import html
from rlhf.report.inputs import Inputs
from rlhf.report.limits import again, limits
from rlhf.report.markdown import markdown
from rlhf.report.methods import methods
from rlhf.report.overoptimisation import overoptimisation
from rlhf.report.overview import done, lineage, summary
from rlhf.report.params import ReportParams
from rlhf.report.ppo import ppo
from rlhf.report.reward import reward
from rlhf.report.samples import samples
from rlhf.report.sft import sft
from rlhf.report.verdicts import from_markdown, verdicts


def build(run: Inputs, params: ReportParams) -> Report:
    """The report of this run; each section says so where its part is missing."""
    makers = (summary, done, data, sft, reward, ppo, evaluation, overoptimisation, methods, verdicts)
    sections = [make(run) for make in makers]
    sections += [samples(run, params.samples), costs(run), sizes(run, params), limits(run), lineage(run), again(run)]
    sections = with_notices(sections, run.numbers)
    return Report(f"Run report: {run.resolved['profile']}, seed {run.resolved['seed']}", sections)


def write_report(run: Inputs, params: ReportParams, at: Layout) -> None:
    """Write reports/index.html, reports/report.md and reports/cards/<model>.md; equal inputs give equal bytes."""
    report = build(run, params)
    page, text = html(report), markdown(report)
    write_text(at.reports / "index.html", page)
    write_text(at.reports / "report.md", text)
    with atomic_dir(at.reports / "cards") as folder:
        for name, card in cards(run).items():
            write_text(folder / f"{name}.md", card)


def failures(run: Inputs) -> list[str]:
    """A line for each verdict that failed and that `evaluate.fail_on` names (`resolve` hands it to `diagnose`)."""
    why = {row[0]: row[-1] for block in from_markdown(run.diagnosis) if isinstance(block, Table) for row in block.rows}
    return [
        f"{name} failed (evaluate.fail_on): {why.get(name, 'see artifacts/diagnose.md')}"
        for name in run.resolved["diagnose"]["fail_on"]
        if run.numbers.values.get(f"diagnose_{name}") == "failed"
    ]
