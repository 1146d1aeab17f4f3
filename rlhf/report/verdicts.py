"""Show the verdicts on failure modes, in the words of the stage diagnose."""

import re

from rlhf.report.content import Block, Notice, Points, Section, Table, Text
from rlhf.report.inputs import Inputs

STATES = ("failed", "suspect", "sound", "unknown")
VERDICTS = (
    "reward_hacking", "over_optimisation", "verbosity", "mode_collapse", "instability", "sycophancy", "undertrained",
    "reward_model", "termination",
)  # fmt: skip


def verdicts(run: Inputs) -> Section:
    """What the stage diagnose has found: its own words, with evidence and remedies."""
    if not run.diagnosis.strip():
        return Section("verdicts", "Verdicts on failure modes", [Text("The run was not examined for failure modes.")])
    blocks = list(from_markdown(run.diagnosis))
    overall = run.numbers.values.get("diagnose_overall")
    head: list[Block] = [Text(f"Overall: {overall}.")] if overall else []
    asked = run.resolved["diagnose"]["fail_on"]
    failed = [name for name in asked if run.numbers.values.get(f"diagnose_{name}") == "failed"]
    if failed:
        head.append(Notice(f"The pipeline fails for {', '.join(failed)}, as `evaluate.fail_on` asks."))
    return Section("verdicts", "Verdicts on failure modes", [*head, *blocks])


def from_markdown(text: str) -> list[Block]:
    """Blocks of simple Markdown: headings, paragraphs, tables and lists. Emphasis is dropped."""
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
            head, *body = [
                [plain(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", row.strip("|"))]
                for row in rows
                if not re.fullmatch(r"[|\s:-]+", row)
            ]
            blocks.append(Table(head, body, title.partition(":")[0], short=not blocks))
        elif rows[0].startswith("- "):
            blocks.append(Points([plain(row.removeprefix("- ")) for row in rows]))
        else:
            said = plain(" ".join(rows))
            if title.startswith("Verdicts") or not re.match(rf"({'|'.join(STATES)}): ", said):  # the table has those
                blocks.append(Text(said if title.startswith("Verdicts") else f"{title}: {said[0].lower()}{said[1:]}"))
    return blocks


def remedies(text: str) -> list[str]:
    """List what the diagnosis proposes to change, each once, those of failed verdicts first."""
    found: dict[str, list[str]] = {"failed": [], "suspect": []}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        state = next((state for state in found if re.search(rf"^(\*\*)?{state}(\*\*)?: ", part, re.MULTILINE)), None)
        if state is not None:
            found[state] += [plain(line[2:]) for line in part.splitlines() if line.startswith("- ")]
    return list(dict.fromkeys(found["failed"] + found["suspect"]))


def plain(text: str) -> str:
    """Without links and emphasis; code stays."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text.replace("**", "")).strip()
