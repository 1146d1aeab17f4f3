"""Show samples of all policies side by side."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf.report.content import Answer, Block, Sample, Samples, Section, Text
from rlhf.report.inputs import Inputs
from rlhf.report.wording import show

SHOWN = {
    "base": "base",
    "sft": "SFT",
    "ppo": "PPO",
    "dpo": "DPO",
    "ipo": "IPO",
    "rrhf": "RRHF",
}
JUDGES = {"gold": "gold reward", "referee": "referee", "reward": "reward model"}
COMPARED = ("ppo", "sft")  # a win is the first's over the second


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
