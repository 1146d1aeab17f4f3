"""Report on the run: one page, one text, and the model cards."""

from pathlib import Path

from stages.cli import Run, stage_command


@stage_command("report")
def main(run: Run) -> None:
    """Write the report of this run from its numbers.

    Reads metrics, plots, provenance, the samples of artifacts/evaluate, what else there is of findings, the resolved
    parameters with their profile, and benchmarks/results/stages.json; writes reports/index.html (one file, opens
    offline), reports/report.md and reports/cards (a model card for each model, with the evaluation's numbers).
    Exit status 1, after all of it was written, if a verdict that evaluate.fail_on names has failed.
    """
    from rlhf.core.errors import UserError
    from rlhf.report.build import failures, write_report
    from rlhf.report.inputs import read_inputs
    from rlhf.report.params import ReportParams

    params = run.section("report", ReportParams)
    costs = Path("benchmarks/results/stages.json")
    found = read_inputs(run.layout, run.resolved(), profiles=Path("profiles"), costs=costs)
    write_report(found, params, run.layout)
    if failed := failures(found):
        raise UserError("\n".join([*failed, f"the report of this run: {run.layout.reports / 'index.html'}"]))


if __name__ == "__main__":
    main()
