"""Measure how often a judge that wrote neither prefers a revision to the answer it revises; say when that is harm.

At 8B parameters, revisions have made answers less helpful and have collapsed (arXiv 2504.04918): a constitution's
labels are claims, and are measured before anything is trained on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.artifacts import write_metrics
from rlhf.core.seeding import rng
from rlhf.core.stats import Interval, tied_rate
from rlhf.label.constitution import round_of
from rlhf.labels.record import Label

Outcomes = list[float | None]  # 1: the revision is preferred, 0: the first answer, one half: a tie; None: no verdict
FEWEST = 20  # pairs below which nothing is said


@dataclass(frozen=True, slots=True)
class Judge:
    """Who compares, and how."""

    name: str
    compare: Callable[[Sequence[Label]], Outcomes]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a judge found on one round's revisions."""

    number: int  # of the round
    pairs: int  # with a verdict
    share: Interval | None  # of pairs whose revision is preferred, ties half; None without any


def measure(labels: Sequence[Label], by: Judge, *, most: int, seed: int) -> list[Finding]:
    """Let a judge compare at most `most` pairs of each round, drawn by the seed."""
    findings = []
    for number in sorted({round_of(label) for label in labels}):
        part = [label for label in labels if round_of(label) == number]
        part = rng(seed, "label", "constitution", "judged", number).sample(part, min(most, len(part)))
        outcomes = [one for one in by.compare(part) if one is not None]
        findings.append(Finding(number, len(outcomes), tied_rate(outcomes) if outcomes else None))
    return findings


def verdict(findings: Sequence[Finding]) -> str:
    """Return `helps`, `harm` or `unclear` of the last round: its whole interval lies above one half, below it, or
    neither."""
    share = findings[-1].share if findings else None
    if share is None or share.low is None or share.high is None or findings[-1].pairs < FEWEST:
        return "unclear"
    return "helps" if share.low > 0.5 else "harm" if share.high < 0.5 else "unclear"


def lines(findings: Sequence[Finding], by: str, file: Path) -> list[str]:
    """Say what was found, and what to do."""
    told = []
    for one in findings:
        share = "-" if one.share is None else f"{one.share.mean:.2f}"
        if one.share is not None and one.share.low is not None and one.share.high is not None:
            share += f" ({one.share.low:.2f} to {one.share.high:.2f})"
        told.append(
            f"revision {one.number} preferred by {by}: {share} of {one.pairs} pairs (.5: no better than before)"
        )
    found = verdict(findings)
    told.append(
        {
            "helps": "verdict: the constitution helps: revisions are preferred to the answers that they revise",
            "harm": f"verdict: the constitution does HARM: the first answers are preferred. Do not train on {file}: "
            "move it out of the folder, and mend the principles or take a better writer",
            "unclear": f"verdict: unclear: it is not shown that revisions are better ({FEWEST} pairs and an interval "
            "beside .5 are needed)",
        }[found]
    )
    return told


def write(findings: Sequence[Finding], by: str, path: Path) -> None:
    """Write what was found as small JSON."""
    metrics: dict[str, object] = {"labels_constitution_judge": by, "labels_constitution_verdict": verdict(findings)}
    for one in findings:
        name = f"labels_constitution_preferred_{one.number}"
        metrics |= {f"{name}_pairs": one.pairs} | (one.share.named(name) if one.share else {name: None})
    write_metrics(path, metrics)
