"""Verdicts for machines (metrics), for eyes (Markdown) and for the terminal."""

import os
from collections.abc import Sequence

from rlhf.diagnose.params import Above, VerdictName
from rlhf.diagnose.verdict import STATES, Sign, State, Verdict, any_of

ORDER: tuple[State, ...] = ("failed", "suspect", "sound", "unknown")  # as they are listed


def overall(verdicts: Sequence[Verdict]) -> State:
    """The worst of all; unknown only if nothing is known."""
    return any_of(verdict.state for verdict in verdicts)


def metrics(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """`diagnose_<verdict>` and `diagnose_<verdict>_<evidence>`, flat; and `diagnose_overall`, with how many of each."""
    states = [verdict.state for verdict in verdicts]
    found: dict[str, object] = {"diagnose_overall": overall(verdicts)}
    found |= {f"diagnose_count_{state}": states.count(state) for state in ORDER}
    for verdict in verdicts:
        found[f"diagnose_{verdict.name}"] = verdict.state
        found |= {f"diagnose_{verdict.name}_{sign.name}": sign.value for sign in verdict.signs}
        found |= {f"diagnose_{verdict.name}_{name}": value for name, value in verdict.context}
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a verdict, the worst first, for the terminal."""
    width = max(len(verdict.name) for verdict in verdicts)
    lines = [f"{v.state:<8} {v.name:<{width}}  {v.because}" for v in _sorted(verdicts)]
    return "\n".join([f"diagnose: {overall(verdicts)}", *(f"  {line}" for line in lines)])


def markdown(verdicts: Sequence[Verdict]) -> str:
    """Everything: a table of verdicts, then for each its evidence, thresholds with their source, and what to change."""
    lines = [
        f"# Verdicts: {overall(verdicts)}",
        "",
        "| verdict | state | why |",
        "|---|---|---|",
        *(f"| [{v.name}](#{v.name}) | {_bold(v.state)} | {v.because} |" for v in _sorted(verdicts)),
        "",
        "unknown: what the verdict needs was not measured. Thresholds are parameters: the section `diagnose` of "
        "params.yaml.",
    ]
    for verdict in _sorted(verdicts):
        lines += ["", f"## {verdict.name}", "", f"{_bold(verdict.state)}: {verdict.because}.", "", *_evidence(verdict)]
        if verdict.remedies:
            lines += ["", "What to change:", "", *(f"- {remedy}" for remedy in verdict.remedies)]
    return "\n".join(lines) + "\n"


def failures(verdicts: Sequence[Verdict], fail_on: Sequence[VerdictName]) -> list[str]:
    """A line for each failed verdict that `evaluate.fail_on` names."""
    return [
        f"diagnose: {verdict.name} failed (evaluate.fail_on): the pipeline fails after its report is written"
        for verdict in verdicts
        if verdict.name in fail_on and verdict.state == "failed"
    ]


def by_hand() -> bool:
    """Whether the command was not started by DVC, which would run nothing after a stage that failed: no report."""
    return "DVC_STAGE" not in os.environ


def _evidence(verdict: Verdict) -> list[str]:
    lines = ["| evidence | value | suspect | failed | threshold from |", "|---|---|---|---|---|"]
    for sign in verdict.signs:
        side = "≥" if isinstance(sign.limit, Above) else "≤"
        bounds = f"{side} {sign.limit.suspect:g} | {side} {sign.limit.failed:g}"
        lines.append(f"| {sign.says} (`{sign.name}`) | {_value(sign)} | {bounds} | {sign.limit.source} |")
    return lines


def _value(sign: Sign) -> str:
    if sign.value is None:
        return "not measured"
    return f"{sign.value:.3g}" if sign.state == "sound" else f"**{sign.value:.3g}**"


def _bold(state: State) -> str:
    return f"**{state}**" if state in STATES[1:] else state


def _sorted(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: ORDER.index(verdict.state))
