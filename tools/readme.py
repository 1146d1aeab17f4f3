"""`make readme`: draw docs/figures/ and fill the blocks of README and docs/ from metrics/, plots/, benchmarks/results/.

    python tools/readme.py [--check]

A block stands between `<!-- name -->` and `<!-- /name -->`, each on a line of its own, in README.md or any page of
docs/; `BLOCKS` says what fills it. With --check, write nothing and exit with status 1 if a block's text is not that of
the files.
Nothing is typed by hand.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import run_figure
import speed

ROOT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"<!-- (/?)([a-z_-]+) -->")


def main(root: Path = ROOT) -> None:
    """Fill every block of every page, or check them; draw the figures."""
    checking = "--check" in sys.argv[1:]
    stale, met = [], set[str]()
    for path in pages(root):
        name, before = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        after, filled_here, changed = filled(before, BLOCKS, name)
        met |= filled_here
        stale += [f"{name}: {block}" for block in changed]
        if not checking and after != before:
            path.write_text(after, encoding="utf-8")
    if unused := sorted(set(BLOCKS) - met):
        sys.exit(f"README.md and docs/: there is no block {', '.join(unused)}")
    if checking and stale:
        sys.exit(f"not the numbers of metrics/ and benchmarks/results/: {'; '.join(stale)}; run `make readme`")
    if not checking:
        run_figure.draw(metrics())
        speed.draw()


def pages(root: Path) -> list[Path]:
    """List README.md and the Markdown files under docs/."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(page: str, blocks: Mapping[str, Callable[[], str]], name: str) -> tuple[str, set[str], list[str]]:
    """Put each block's text between its marks.

    Returns:
        The page, the blocks in it, and those whose text was another.

    Raises:
        SystemExit: a mark is of no known block, or its other half is missing; the message names page and line.
    """
    lines, found, changed = [], set[str](), []
    opened: str | None = None
    held: list[str] = []
    for number, line in enumerate(page.splitlines(), start=1):
        mark = MARK.fullmatch(line)
        if mark and mark[2] not in blocks:
            sys.exit(f"{name}:{number}: unknown block {mark[2]!r}; known are {', '.join(sorted(blocks))}")
        if mark and (bool(mark[1]) == (opened is None) or (mark[1] and mark[2] != opened)):
            sys.exit(f"{name}:{number}: found {line} {f'within {opened}' if opened else 'outside a block'}")
        if mark and not mark[1]:
            opened, held = mark[2], []
            lines.append(line)
        elif mark and opened:
            text = blocks[opened]().strip()
            if text != "\n".join(held):
                changed.append(opened)
            found.add(opened)
            lines += [text, line]
            opened = None
        else:
            (lines if opened is None else held).append(line)
    if opened:
        sys.exit(f"{name}: there is no <!-- /{opened} -->")
    return "\n".join(lines) + "\n", found, changed


class Metrics(dict[str, float]):
    """Metrics of all stages by name; one that is missing ends the program with a line that says which."""

    def __missing__(self, name: str) -> float:
        """Exit, naming the metric."""
        sys.exit(f"metrics/: there is no {name}; `dvc repro` makes the metrics anew")


def metrics(root: Path = ROOT) -> Metrics:
    """Read metrics/*.json into one mapping; names are unique over files."""
    found = Metrics()
    for path in sorted((root / "metrics").glob("*.json")):
        found.update(json.loads(path.read_text(encoding="utf-8")))
    return found


def stored(name: str) -> str:
    """Return a table as its study wrote it."""
    return (ROOT / "benchmarks" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()


def cost() -> str:
    """Say what the default run took on the machine that `make costs` last saw."""
    found = json.loads((ROOT / "benchmarks" / "results" / "stages.json").read_text(encoding="utf-8"))
    stages, machine = found["stages"].values(), found["machine"]
    clock, busy = (sum(stage[name] for stage in stages) / 60 for name in ("wall_s", "cpu_s"))
    shared = max(stage["processes"] for stage in stages)
    peak = max(stage["peak_memory_mb"] for stage in stages) / 1000
    return (
        f"The pipeline takes {clock:.0f} minutes by the clock with {shared} processes ({machine['processor']};"
        f" {busy:.0f} of processor time) and {peak:.1f} GB of memory at its peak."
    )


def planted() -> str:
    """Return the judged set of planted failures: the table with gold, and what comes out without."""
    parts = {part.splitlines()[0]: part for part in stored("planted").split("\n## ")[1:]}
    kinds = ("with gold", "without gold")
    judged = {kind: next(p for title, p in parts.items() if "Judged" in title and kind in title) for kind in kinds}
    table = judged["with gold"].partition("\n\n")[2].strip()
    _, _, blind = judged["without gold"].partition("\n\n")
    return f"{table}\n\nWithout gold: {blind.strip().rpartition(chr(10) * 2)[2]}"


def kl_coef() -> str:
    """Return the frontier's rows of SFT and PPO, without the column that only best of n fills."""
    rows = [row.split(" | ") for row in stored("frontier").splitlines()]
    kept = [cells[:2] + cells[3:] for cells in rows if cells[0].startswith(("| policy", "| SFT", "| PPO"))]
    return "\n".join([" | ".join(kept[0]), "|---" * len(kept[0]) + "|", *(" | ".join(cells) for cells in kept[1:])])


def results() -> str:
    """Return the result table of the default run."""
    found = metrics()

    def span(name: str, digits: int = 2) -> str:
        low, high = found[f"{name}_low"], found[f"{name}_high"]
        return f"{found[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    rows = [
        "| | base | SFT | PPO |",
        "|---|---|---|---|",
    ]
    for label, measure, digits in (
        ("gold reward (the truth, hidden from training)", "gold", 2),
        ("reward-model score (what PPO optimises)", "reward", 2),
        ("response length, tokens", "length", 1),
    ):
        cells = " | ".join(span(f"eval_{measure}_{policy}", digits) for policy in ("base", "sft", "ppo"))
        rows.append(f"| {label} | {cells} |")
    rows += [
        "",
        f"PPO wins against SFT on {span('eval_gold_winrate')} of {found['eval_prompts']} held-out prompts by gold"
        f" reward and on {span('eval_rm_winrate')} by the reward model, at a KL of {found['eval_kl']:.2f} nats a"
        f" response. On prompts about things never seen in training the gold win rate is"
        f" {span('eval_ood_gold_winrate')}.",
        f"The reward model ranks {span('reward_accuracy', 3)} of held-out pairs as their annotators did; always"
        f" taking the longer response ranks {found['reward_length_baseline']:.3f}; perfect knowledge of the truth"
        f" would reach {found['reward_noise_ceiling']:.3f}, since annotators err. It gets"
        f" {100 * found['reward_share_of_ceiling']:.0f} % of the way from chance to there.",
    ]
    return "\n".join(rows)


def if_run(name: str) -> str:
    """Return a table as its study wrote it, or that it was not run."""
    there = (ROOT / "benchmarks" / "results" / f"{name}.md").is_file()
    return stored(name) if there else "Not run yet: there is no result to report."


def real_summary() -> str:
    """What the first unit of `make real` shows, in a sentence; empty where it was not run."""
    path = ROOT / "benchmarks" / "results" / "real_sentiment.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = [row["metrics"] for _, row in sorted(stored.items()) if row["way"] == "penalty"]
    if not rows:
        return ""

    def mean(name: str, digits: int) -> str:
        return f"{math.fsum(own[name] for own in rows) / len(rows):.{digits}f}"

    low = min(own["eval_referee_winrate_low"] for own in rows)
    seeds = "one seed" if len(rows) == 1 else f"means of {len(rows)} seeds"
    return (
        f"On SmolLM2-135M-Instruct, which others trained, PPO moves the sentiment of replies to unseen prompts from "
        f"{mean('eval_reward_sft', 2)} to {mean('eval_reward_ppo', 2)} at {mean('eval_kl', 1)} nats; a word list it "
        f"never saw prefers them at {mean('eval_referee_winrate', 2)} ({seeds}, no interval below {low:.2f}: "
        "[real runs](docs/real-runs.md))."
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "real_summary": real_summary,
    "results": results,
    "cost": cost,
    "planted": planted,
    "planted-full": lambda: stored("planted").partition("\n")[2].strip().replace("\n## ", "\n### "),
    "kl_coef": kl_coef,
    "compare": lambda: stored("alternatives"),
    "seeds": lambda: stored("seeds"),
    "architectures": lambda: stored("architectures"),
    "early_stopping": lambda: stored("early_stopping"),
    "ensembles": lambda: stored("ensembles"),
    "reward_variants": lambda: stored("reward_variants"),
    "frontier": lambda: stored("frontier"),
    "projection": lambda: stored("projection"),
    "portable": lambda: stored("portable"),
    "round_gains": lambda: stored("round_gains"),
    "active_learning": lambda: stored("active_learning"),
    "real_sentiment": lambda: if_run("real_sentiment"),
    "real_polite": lambda: if_run("real_polite"),
    "real_helpful": lambda: if_run("real_helpful"),
    "real_chat": lambda: if_run("real_chat"),
    "scale": lambda: if_run("scale"),
    "seed_spread": lambda: stored("seed_spread").replace("## ", "### "),
    "speed": speed.block,
    "speed-summary": speed.summary,
}

if __name__ == "__main__":
    main()
