"""The results of `make scale`: medians of each case, as JSON and as tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scale.cases import Case
from rlhf.core.artifacts import write_json, write_text

Times = dict[str, float]
TIMED = ("wall_s", "busy_s")
HEADS = (
    "step of", "batch", "width", "shards", "processes", "s on the clock", "s of the busiest process",
    "against 1 shard", "messages", "kB sent by each",
)  # fmt: skip


def medians(times: Sequence[Times], *, counts_only: bool) -> dict[str, float | None]:
    """Take the median of each number over the repeats; no times where only counts are asked for."""
    found = {name: statistics.median(each[name] for each in times) for name in times[0]}
    return {name: None if counts_only and name in TIMED else number for name, number in found.items()}


def table(cases: Sequence[Case], found: Mapping[Case, Mapping[str, float | None]]) -> str:
    """Render the cases of an axis; beside each the time on the clock against one shard in one process."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for case in cases:
        own = found[case]
        alone = found[Case(case.what, 1, 1, case.batch, case.width)]
        wall, busy, before = own["wall_s"], own["busy_s"], alone["wall_s"]
        cells = [case.what, case.batch, case.width, case.shards, case.processes]
        cells += ["–" if seconds is None else f"{seconds:.3f}" for seconds in (wall, busy)]
        cells += ["–" if wall is None or before is None else f"{wall / before:.2f}"]
        cells += [f"{own['messages']:.0f}", f"{(own['bytes'] or 0) / 1e3:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def store(
    folder: Path, axes: Mapping[str, Sequence[Case]], found: Mapping[Case, Mapping[str, float | None]], about: Any
) -> str:
    """Write scale.json and scale.md; return the latter. `about`: the machine, its cores, steps and repeats."""
    rows = {name: [{**asdict(case), **found[case]} for case in cases] for name, cases in axes.items()}
    timed = all(own["wall_s"] is not None for own in found.values())
    what = (
        f"medians of {about['repeats']} times {about['steps']} steps" if timed else "counts alone: times were left out"
    )
    head = f"{about['machine']}, {about['cores']} cores, a thread for each process; {what}."
    parts = [f"Over {name}:\n\n{table(cases, found)}" for name, cases in axes.items()]
    text = "\n\n".join([head, *parts]) + "\n"
    write_json(folder / "scale.json", {**about, "timed": timed, "axes": rows})
    write_text(folder / "scale.md", text)
    return text
