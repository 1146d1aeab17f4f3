"""Verdicts that fail the pipeline (`evaluate.fail_on`). The report does the failing and not `diagnose`, since DVC runs
nothing that depends on a stage that failed: whoever has to read the report would have none."""

from rlhf.report.content import Table
from rlhf.report.inputs import Inputs
from rlhf.report.rest import from_markdown


def failures(run: Inputs) -> list[str]:
    """A line for each verdict that failed and that `evaluate.fail_on` names (`resolve` hands it to `diagnose`)."""
    why = {row[0]: row[-1] for block in from_markdown(run.diagnosis) if isinstance(block, Table) for row in block.rows}
    return [
        f"{name} failed (evaluate.fail_on): {why.get(name, 'see artifacts/diagnose.md')}"
        for name in run.resolved["diagnose"]["fail_on"]
        if run.numbers.values.get(f"diagnose_{name}") == "failed"
    ]
