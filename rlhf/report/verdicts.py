"""Show the verdicts on failure modes: artifacts/diagnose.md, with evidence and remedies."""

import re
from dataclasses import dataclass

from rlhf.report.content import Block, Notice, Points, Section, Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.wording import Numbers

STATES = ("failed", "suspect", "sound", "unknown")  # the worst first
TITLE = "Verdicts on failure modes"


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict of the stage diagnose: its state, the reason, and remedies in order of promise."""

    name: str
    state: str
    why: str
    remedies: tuple[str, ...]


def verdicts(run: Inputs) -> Section:
    """Take over the verdicts of the stage diagnose."""
    if not run.diagnosis.strip():
        return Section("verdicts", TITLE, [Text("The run was not examined for failure modes.")])
    blocks: list[Block] = []
    if overall := run.numbers.values.get("diagnose_overall"):
        blocks.append(Text(f"Overall: {overall}."))
    if failed := failed_on(run):
        blocks.append(Notice(f"The pipeline fails for {', '.join(failed)}, as `evaluate.fail_on` asks."))
    return Section("verdicts", TITLE, [*blocks, *from_markdown(run.diagnosis)])


def failed_on(run: Inputs) -> list[str]:
    """Return the failed verdicts that `evaluate.fail_on` names (`resolve` hands it to the section `diagnose`)."""
    named = run.resolved["diagnose"]["fail_on"]
    return [name for name in named if run.numbers.values.get(f"diagnose_{name}") == "failed"]


def states(n: Numbers) -> dict[str, str]:
    """Return the state of each verdict by its name, from the metrics `diagnose_<verdict>`; the worst first."""
    found = {
        name.removeprefix("diagnose_"): str(value)
        for name, value in n.values.items()
        if name.startswith("diagnose_") and name != "diagnose_overall" and value in STATES
    }
    return dict(sorted(found.items(), key=lambda item: STATES.index(item[1])))


def read_findings(text: str) -> list[Finding]:
    """Read the table of verdicts, and the list of remedies under each verdict's heading."""
    first, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    remedies = {}
    for section in rest:
        name, _, body = section.partition("\n")
        remedies[name.strip()] = tuple(plain(line[2:]) for line in body.splitlines() if line.startswith("- "))
    return [
        Finding(name, state, why, remedies.get(name, ()))
        for block in from_markdown(first)
        if isinstance(block, Table)
        for name, state, why in block.rows
    ]


def from_markdown(text: str) -> list[Block]:
    """Convert simple Markdown (headings, paragraphs, tables, lists) to blocks, without emphasis.

    The first table is short. A verdict's own paragraph is left out, since the first table has it; its remedies get
    the verdict's name as their heading.
    """
    blocks: list[Block] = []
    title = ""
    for chunk in re.split(r"\n\s*\n", text.strip()):
        rows = [line.strip() for line in chunk.strip().splitlines()]
        if rows and rows[0].startswith("#"):
            title = rows[0].lstrip("# ").strip()
            rows = rows[1:]
        if not rows:
            continue
        if rows[0].startswith("|"):
            blocks.append(_table(rows, f"Evidence on {title}" if blocks else "Verdicts", short=not blocks))
        elif rows[0].startswith("- "):
            blocks.append(Points([plain(row.removeprefix("- ")) for row in rows], f"What to change for {title}"))
        elif title.startswith("Verdicts"):
            blocks.append(Text(plain(" ".join(rows))))
    return blocks


def _table(rows: list[str], caption: str, *, short: bool) -> Table:
    head, *body = [
        [plain(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", row.strip("|"))]
        for row in rows
        if not re.fullmatch(r"[|\s:-]+", row)
    ]
    return Table(head, body, caption, short=short)


def plain(text: str) -> str:
    """Strip links and emphasis; code stays."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text.replace("**", "")).strip()
