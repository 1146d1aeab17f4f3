"""Write the outcome of a verification for a terminal or as Markdown: the verdict first."""

from collections.abc import Iterator, Sequence

from rlhf.runs.headlines import FAMILYWISE
from rlhf.runs.text_table import number, text_table
from rlhf.verify.causes import Fact
from rlhf.verify.compare import Difference
from rlhf.verify.run import Outcome
from rlhf.verify.verdict import Spread, Status

SHOWN = 12  # outputs that are named; of the others only how many there are


def write(outcome: Outcome, *, markdown: bool) -> str:
    """Say what came of it. The first line is the verdict and stands alone."""
    lines = [f"**{headline(outcome)}**" if markdown else headline(outcome)]
    for block in _blocks(outcome, markdown):
        lines += ["", *block] if markdown else block
    return "\n".join(lines)


def headline(outcome: Outcome) -> str:
    """Say the verdict in one line."""
    said, commit, compared = outcome.verdict, outcome.committed.commit.short, outcome.compared
    if said.status is Status.SAME:
        count = f"all {compared.outputs} outputs of {compared.stages} stages are as dvc.lock of {commit} records them"
        return f"verify: same bytes: {count}"
    if said.status is Status.WITHIN:
        return (
            "verify: not the same bytes, but every headline number is within what another seed gives; "
            f"first at stage {said.first} ({commit})"
        )
    unknown = "; spread unknown" if said.spread is None or said.spread.unknown else ""
    return f"verify: different, first at stage {said.first}{unknown} ({commit})"


def _blocks(outcome: Outcome, markdown: bool) -> Iterator[Sequence[str]]:
    compared, spread = outcome.compared, outcome.verdict.spread
    if compared.versions:
        names = ", ".join(map(str, compared.versions))
        yield [f"Made with other versions of libraries, as {names} say; the report, which shows them, is not compared."]
    if compared.differences:
        yield _outputs(compared.differences, compared.outputs, markdown)
    if spread is not None:
        yield _spread(spread, outcome, markdown)
    if outcome.facts:
        yield from _causes(outcome.facts, markdown)
    if outcome.kept is not None:
        yield [f"The run is in {outcome.kept / 'run'}; remove {outcome.kept} when you have seen enough."]


def _outputs(differences: Sequence[Difference], outputs: int, markdown: bool) -> list[str]:
    rows = [(one.stage, str(one.path), one.what) for one in differences[:SHOWN]]
    more = [f"… and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
    head = f"{len(differences)} outputs differ from the {outputs} that dvc.lock records:"
    return [head, *([""] if markdown else []), *text_table(("stage", "output", ""), rows, markdown=markdown), *more]


def _spread(spread: Spread, outcome: Outcome, markdown: bool) -> list[str]:
    if spread.unknown or spread.share is None:
        return [f"Spread unknown: {spread.unknown}."]
    there = outcome.committed.metrics
    rows = [
        (one.name, number(there.get(one.name)), number(one.found), f"{number(one.low)} to {number(one.high)}",
         "within" if one.within else "OUTSIDE")
        for one in spread.judged
    ]  # fmt: skip
    head = ("number", "committed", "here", "another seed gives", "")
    low, high = spread.share.low or 0.0, spread.share.high or 0.0
    said = (
        f"By {spread.seeds} seeds of profile {spread.profile}, familywise {FAMILYWISE:.0%}. Each judged by all others, "
        f"{spread.outside} fall outside: {spread.share.mean:.1%} (95 % interval {low:.1%} to {high:.1%})."
    )
    return [*text_table(head, rows, markdown=markdown), *([""] if markdown else []), said]


def _causes(facts: Sequence[Fact], markdown: bool) -> Iterator[list[str]]:
    differ = [one for one in facts if one.known and one.committed != one.here]
    unknown = [one.name for one in facts if not one.known]
    same = [one.name for one in facts if one.known and one.committed == one.here]
    if differ:
        rows = [(one.name, one.committed or "", one.here or "") for one in differ]
        yield ["What differs:", *([""] if markdown else []),
               *text_table(("", "committed", "here"), rows, markdown=markdown)]  # fmt: skip
    else:
        why = "what was not recorded may" if unknown else "the same code, parameters and machine gave two runs"
        yield [f"Nothing that was recorded of both runs differs; {why}."]
    if same:
        yield [f"The same: {', '.join(same)}."]
    if unknown:
        yield [f"Not recorded of both runs: {', '.join(unknown)}."]
