"""All verdicts on one run."""

from rlhf.diagnose import outcome_verdicts as outcome
from rlhf.diagnose import training_verdicts as process
from rlhf.diagnose.evidence import Evidence
from rlhf.diagnose.params import Thresholds
from rlhf.diagnose.remedies import Resolved, remedies
from rlhf.diagnose.verdict import Verdict


def all_verdicts(evidence: Evidence, limits: Thresholds, params: Resolved) -> list[Verdict]:
    """Every verdict, in a fixed order. `params` are the run's, for remedies that say what a value is now."""
    verdicts = [
        outcome.reward_hacking(evidence, limits.reward_hacking),
        outcome.over_optimisation(evidence, limits.over_optimisation),
        outcome.verbosity(evidence, limits.verbosity),
        process.mode_collapse(evidence, limits.mode_collapse),
        process.instability(evidence, limits.instability),
        outcome.sycophancy(evidence, limits.sycophancy),
        outcome.undertrained(evidence, limits.undertrained),
        process.reward_model(evidence, limits.reward_model),
        process.termination(evidence, limits.termination),
    ]
    return [verdict.with_remedies(remedies(verdict.name, params)) for verdict in verdicts]
