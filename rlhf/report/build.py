"""All sections in their order."""

from rlhf.report.content import Report
from rlhf.report.evaluation import evaluation
from rlhf.report.frontier import frontier
from rlhf.report.handed import with_notices
from rlhf.report.inputs import Inputs
from rlhf.report.limits import again, limits
from rlhf.report.made import done, lineage, summary
from rlhf.report.methods import methods
from rlhf.report.models import data, sft
from rlhf.report.params import ReportParams
from rlhf.report.price import costs, sizes
from rlhf.report.rest import samples, verdicts
from rlhf.report.scores import reward
from rlhf.report.training import ppo


def build(run: Inputs, params: ReportParams) -> Report:
    """The report of this run; each section says so where its part is missing."""
    makers = (summary, done, data, sft, reward, ppo, evaluation, frontier, methods, verdicts)
    sections = [make(run) for make in makers]
    sections += [samples(run, params.samples), costs(run), sizes(run, params), limits(run), lineage(run), again(run)]
    sections = with_notices(sections, run.numbers)
    return Report(f"Run report: {run.resolved['profile']}, seed {run.resolved['seed']}", sections)
