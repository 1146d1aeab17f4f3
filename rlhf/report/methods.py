"""Compare PPO with the alternatives that were trained."""

import math
from collections.abc import Mapping, Sequence

from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.costs import duration
from rlhf.report.draw import Labels, Series, lines
from rlhf.report.inputs import Inputs
from rlhf.report.wording import REWARDS, show

OWN = ("base", "sft", "ppo")  # in every run, and in the section on the evaluation
COLUMNS = {
    **REWARDS, "gold_winrate": "gold win rate", "referee_winrate": "referee win rate",
    "rm_winrate": "reward-model win rate", "kl": "KL to SFT, nats", "kl_bound": "KL bound, nats",
    "length": "length, tokens", "distinct2": "distinct word pairs", "tax_perplexity": "perplexity of documents",
    "tokens_sampled": "tokens sampled", "tokens_trained": "tokens trained on", "tokens_per_reply": "tokens a reply",
}  # fmt: skip
BRIEF = ("gold", "referee", "reward", "gold_winrate", "referee_winrate", "kl")  # in the Markdown as well
Row = Mapping[str, str]


def methods(run: Inputs) -> Section:
    """Show all policies of plots/compare.csv in one table, and their rewards over the distance from SFT."""
    title, rows = "PPO beside other methods", run.compared
    others = [row["policy"] for row in rows if row["policy"] not in OWN]
    if not others:
        said = "No alternatives were trained in this run (`offline.<method>.run` in params.yaml asks for them)."
        return Section("methods", title, [Text(said)])
    there = {name: what for name, what in COLUMNS.items() if any(row.get(name) for row in rows)}
    blocks: list[Block] = [
        Text(
            f"Beside PPO: {', '.join(others)}, from the same SFT policy and on the same prompts. Win rates are "
            "over SFT; in brackets 95 % intervals. Which is best depends on who compares and on how much KL is "
            "acceptable."
        ),
        _table(run, {name: what for name, what in there.items() if name in BRIEF}, "Methods", short=True),
        _table(run, there, "Methods, all that was measured", short=False),
    ]
    for measure in REWARDS:
        if measure in there:
            caption = f"{COLUMNS[measure].capitalize()} over the distance, 95 % intervals"
            labels = Labels(f"methods-{measure}", "distance from SFT: √KL, √nats", f"{COLUMNS[measure]}, mean", caption)
            blocks.append(lines(_points(rows, measure), labels))
    return Section("methods", title, blocks)


def _table(run: Inputs, columns: Mapping[str, str], caption: str, *, short: bool) -> Table:
    stages = {} if short else (run.costs or {}).get("stages", {})
    names = [row["policy"] for row in run.compared]
    times = {name: cost for name in names if (cost := stages.get(f"offline@{name}") or stages.get(name))}
    rows = []
    for row in run.compared:
        cells = [row["policy"], *(_cell(row, name) for name in columns)]
        if times:
            cost = times.get(row["policy"])
            cells += [duration(cost["wall_s"]), f"{cost['peak_memory_mb']:.0f} MB"] if cost else ["–", "–"]
        rows.append(cells)
    return Table(["policy", *columns.values(), *(["time", "peak memory"] if times else [])], rows, caption, short=short)


def _cell(row: Row, name: str) -> str:
    value, low, high = (float(row[key]) if row.get(key) else None for key in (name, f"{name}_low", f"{name}_high"))
    text = f"{value:,.0f}" if value is not None and name.startswith("tokens_") else show(value)
    return text if low is None or high is None else f"{text} ({show(low)} to {show(high)})"


def _points(rows: Sequence[Row], measure: str) -> list[Series]:
    """Return one point for each policy."""
    found = []
    for row in rows:
        if row.get("kl") and row.get(measure):
            low, high = ([float(row[key])] if row.get(key) else None for key in (f"{measure}_low", f"{measure}_high"))
            x = math.sqrt(max(0.0, float(row["kl"])))
            found.append(Series(row["policy"], [x], [float(row[measure])], low, high, joined=False))
    return found
