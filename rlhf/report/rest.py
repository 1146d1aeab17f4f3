"""Verdicts on failure modes, and samples side by side."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf.report.content import Answer, Block, Notice, Points, Sample, Samples, Section, Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.numbers import show

SHOWN = {
    "base": "base",
    "sft": "SFT",
    "ppo": "PPO",
    "dpo": "DPO",
    "ipo": "IPO",
    "rrhf": "RRHF",
    "grpo": "GRPO",
    "rloo": "RLOO",
}
JUDGES = {"gold": "gold reward", "heldout": "held-out reward model", "reward": "reward model"}
STATES = ("failed", "suspect", "sound", "unknown")
COMPARED = ("ppo", "sft")  # a win is the first's over the second


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


def plain(text: str) -> str:
    """Without links and emphasis; code stays."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text.replace("**", "")).strip()


def samples(run: Inputs, limit: int) -> Section:
    """The first prompts with every policy's answer."""
    rows = run.samples[:limit]
    title = "Samples side by side"
    if not rows:
        return Section("samples", title, [Text("No samples were kept.")])
    policies = [key.removesuffix("_reward") for key in rows[0] if key.endswith("_reward")]
    measures = {
        name: what
        for name, what in JUDGES.items()
        if all(row.get(f"{policy}_{name}") is not None for row in rows for policy in COMPARED)
    }
    found = [_sample(row, policies, measures) for row in rows]
    blocks: list[Block] = []
    counts = [
        f"{_count(found, name, 'win')} won, {_count(found, name, 'tie')} tied and {_count(found, name, 'lose')} lost "
        f"by {what}"
        for name, what in measures.items()
    ]
    said = f" PPO against SFT: {'; '.join(counts)}." if counts else ""
    blocks.append(Text(
        f"The first {len(rows)} prompts of the evaluation, not picked.{said} Beside an answer: "
        f"{', '.join(JUDGES[name] for name in JUDGES if f'{policies[0]}_{name}' in rows[0])}; … where it was cut off."
    ))  # fmt: skip
    return Section("samples", title, [*blocks, Samples(found, measures)])


def _sample(row: Mapping[str, Any], policies: Sequence[str], measures: Mapping[str, str]) -> Sample:
    answers = [
        Answer(SHOWN.get(name, name), str(row[name]).strip(), bool(row.get(f"{name}_ended", True)),
               [show(row[key]) for judge in JUDGES if row.get(key := f"{name}_{judge}") is not None])
        for name in policies
    ]  # fmt: skip
    prompt = re.sub(r"\s*\n\s*", "\n", str(row["prompt"]).strip()).removesuffix("\nAssistant:")
    return Sample(prompt, answers, {name: _outcome(row, name) for name in measures})


def _outcome(row: Mapping[str, Any], measure: str) -> str:
    one, other = (float(row[f"{policy}_{measure}"]) for policy in COMPARED)
    return "win" if one > other else "lose" if one < other else "tie"


def _count(found: Sequence[Sample], measure: str, outcome: str) -> int:
    return sum(one.outcomes[measure] == outcome for one in found)
