"""Build the report and write it as a page, as Markdown and as model cards."""

from rlhf.core.artifacts import atomic_dir, write_text
from rlhf.core.layout import Layout
from rlhf.report.cards import cards
from rlhf.report.content import Report
from rlhf.report.costs import costs, sizes
from rlhf.report.data import data
from rlhf.report.done import done
from rlhf.report.evaluation import evaluation
from rlhf.report.fallback_notice import with_notices
from rlhf.report.html import html
from rlhf.report.inputs import Inputs
from rlhf.report.labels import labels
from rlhf.report.limits import again, limits
from rlhf.report.lineage import lineage
from rlhf.report.markdown import markdown
from rlhf.report.methods import methods
from rlhf.report.opening import opening
from rlhf.report.overoptimisation import overoptimisation
from rlhf.report.params import ReportParams
from rlhf.report.ppo import ppo
from rlhf.report.reward import reward
from rlhf.report.samples import samples
from rlhf.report.sft import sft
from rlhf.report.verdicts import failed_on, read_findings, verdicts


def build(run: Inputs, params: ReportParams) -> Report:
    """Build every section of the report, in reading order. A section whose data are missing says so."""
    bought = labels(run)
    sections = [
        opening(run),
        done(run),
        data(run),
        *([bought] if bought else []),
        sft(run),
        reward(run),
        ppo(run),
        evaluation(run),
        overoptimisation(run),
        methods(run),
        verdicts(run),
        samples(run, params.samples),
        costs(run),
        sizes(run, params),
        limits(run),
        lineage(run),
        again(run),
    ]
    title = f"Run report: {run.resolved['profile']}, seed {run.resolved['seed']}"
    return Report(title, with_notices(sections, run.numbers))


def write_report(run: Inputs, params: ReportParams, at: Layout) -> None:
    """Write reports/index.html, reports/report.md and reports/cards/<model>.md. Equal inputs give equal bytes."""
    report = build(run, params)
    page, text = html(report), markdown(report)
    write_text(at.reports / "index.html", page)
    write_text(at.reports / "report.md", text)
    with atomic_dir(at.reports / "cards") as folder:
        for name, card in cards(run).items():
            write_text(folder / f"{name}.md", card)


def failures(run: Inputs) -> list[str]:
    """Return a line for each failed verdict that `evaluate.fail_on` names, with its reason."""
    why = {finding.name: finding.why for finding in read_findings(run.diagnosis)}
    return [
        f"{name} failed (evaluate.fail_on): {why.get(name, 'see artifacts/diagnose.md')}" for name in failed_on(run)
    ]
