"""Say what to do next: remedies for what failed, or how to go on from a sound run."""

import re
from collections.abc import Iterator

from rlhf.report.content import Points
from rlhf.report.inputs import Inputs
from rlhf.report.verdicts import Finding, read_findings, states
from rlhf.report.wording import Numbers, percent

TITLE = "What to do next"
MOST = 6  # actions shown; the section on verdicts has all
CHANGE = re.compile(r"((?:raise|lower|set|look at) )(\S+)((?: \(now .*?\))?): (.*)")  # as diagnose writes a remedy


def next_steps(run: Inputs) -> Points:
    """List remedies by parameter name, those of failed verdicts first; where nothing stands out, what to try next."""
    found = [one for one in read_findings(run.diagnosis) if one.remedies]
    if found:
        return Points(_actions(found), TITLE)
    known = states(run.numbers)
    further = list(_further(run, known))
    if bad := [name for name, state in known.items() if state in ("failed", "suspect")]:
        return Points([f"See `artifacts/diagnose.md` for what to change about {', '.join(bad)}.", *further], TITLE)
    if not set(known.values()) - {"unknown"}:
        return Points(["Run the stage `diagnose`, or measure what its verdicts need.", *further], TITLE)
    return Points(further, "Nothing stands out; next")


def _actions(found: list[Finding]) -> list[str]:
    """One line a change, with its reason for every verdict that it helps; each verdict's first remedy comes first."""
    reasons: dict[str, list[str]] = {}
    for rank in range(max(len(one.remedies) for one in found)):
        for one in found:
            if rank < len(one.remedies):
                match = CHANGE.fullmatch(one.remedies[rank])
                change, why = (f"{match[1]}`{match[2]}`{match[3]}: ", match[4]) if match else ("", one.remedies[rank])
                reasons.setdefault(change, []).append(f"{why} ({one.name})")
    return [change + "; ".join(why) for change, why in list(reasons.items())[:MOST]]


def _further(run: Inputs, known: dict[str, str]) -> Iterator[str]:
    n = run.numbers
    if unknown := [name for name, state in known.items() if state == "unknown"]:
        yield f"Measure what is unknown: {', '.join(unknown)} (evidence in the section on verdicts)."
    if below_ceiling(n):
        share = f" ({percent(n['reward_share_of_ceiling'])} of the way)" if "reward_share_of_ceiling" in n else ""
        yield f"A better reward model, since this one is below its ceiling{share}: more pairs, or `reward.train`."
    yield f"Another seed (`dvc exp run -S seed={run.resolved['seed'] + 1}`), for what this one owes to luck."
    coefficient = run.resolved["ppo"]["kl_coef"]
    if coefficient is not None:
        yield (
            f"Other values of `ppo.kl_coef` (now {coefficient:g}), queued with `dvc exp run --queue` and compared "
            "by `make sweep-report`."
        )


def below_ceiling(n: Numbers) -> bool:
    """Tell whether the reward model ranks fewer pairs rightly than the annotators' errors allow, beyond chance."""
    if not n.has("reward_accuracy", "reward_noise_ceiling"):
        return False
    _, high = n.interval("reward_accuracy") or (0.0, 1.0)
    return bool(high < n["reward_noise_ceiling"])
