"""Sentiment on a real model: the first task that PPO on language models was shown on (Ziegler et al. 2019).

The policy begins as SmolLM2-135M-Instruct itself: SFT takes one step of no size. The reward is VADER's compound score
of the reply alone, and TextBlob's polarity, another word list that PPO never sees, is the referee. Each seed is run
with the KL penalty and without it: what breaks then is for the verdicts to say.
"""

from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl, read_json
from rlhf.core.costs import machine
from rlhf.core.curves import read_rows
from studies.command import Entry, Found, span
from studies.real.data import cut_short, shared
from studies.real.model import local_model, side_by_side
from studies.run import Run

WORDS = 4  # of a reply in the data, which teaches nothing here
WAYS: dict[str, dict[str, object]] = {"penalty": {}, "free": {"ppo.kl_coef": 0.0, "ppo.kl_limit": 0.0}}
OFFLINE = tuple(f"offline@{name}" for name in ("dpo", "ipo", "rrhf", "rejection", "best_of_n"))
BEFORE = ("prepare", "base", "conformance", "sft", "reward", *OFFLINE)
AFTER = ("ppo", "evaluate", "diagnose")
COMPARED = (0, "penalty")  # best of n is of the SFT policy alone, and takes as long as PPO: sampled for one row
SHOWN = 6  # prompts side by side

# Sizes for two shared processor cores. PPO's rewards are the function's own, so no model of them is fitted with care.
SETTINGS: dict[str, object] = {
    "profile": "smollm2",
    "data.source": "files",
    "data.format": "pairs",
    "data.template": "dialogue",
    "data.max_tokens": 36,
    "data.min_tokens": 4,
    "data.max_pairs": 640,
    "data.validation_share": 0.05,
    "data.test_share": 0.48,
    "base.source": "path",
    "sft.epochs": 1,
    "sft.max_examples": 16,
    "sft.eval_examples": 16,
    "sft.warmup_steps": 0,
    "sft.lr": 1.0e-12,
    "sft.samples": 0,
    "sft.sample_tokens": 24,
    "reward.referee_share": 0.0,
    "reward.normalise_prompts": 16,
    "reward.response_tokens": 24,
    "reward.batch_tokens": 2048,
    "ppo.source": "function",
    "ppo.function": "vader_reward:compound",
    "ppo.function_path": "examples/vader",
    "ppo.batch": 32,
    "ppo.minibatch": 16,
    "ppo.microbatch": 16,
    "ppo.epochs": 4,
    "ppo.iterations": 14,
    "ppo.response_tokens": 24,
    "ppo.max_prompt_tokens": 26,
    "ppo.lr": 6.0e-4,
    "ppo.kl_coef": 0.05,
    "ppo.missing_eos": "keep",
    "ppo.score_clip": 0.0,
    "referee.function": "textblob_referee:polarity",
    "referee.function_path": "examples/textblob",
    "offline.shared.response_tokens": 24,
    "offline.best_of_n.run": True,
    "offline.best_of_n.n": [2, 4],
    "evaluate.prompts": 300,
    "evaluate.ood_prompts": 0,
    "evaluate.probes": 0,
    "evaluate.samples": 50,
    "evaluate.response_tokens": 24,
    "evaluate.batch_size": 50,
    "evaluate.batch_tokens": 2048,
    "evaluate.exact_kl_prompts": 0,
    # Replies are cut off at 24 tokens by design, so that none ends by itself is no fault.
    "diagnose.termination.unended.suspect": 1.01,
    "diagnose.termination.unended.failed": 1.02,
    "diagnose.termination.unended.source": "replies of this task are cut off by design",
}


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan one row: a seed with the penalty, or free of it, from the same SFT policy.

    Raises:
        UserError: the model or the prompts are not there.
    """
    model = local_model()
    source = cut_short(shared("hh-helpful-base/test.jsonl.gz"), work / "data" / "sentiment.jsonl", words=WORDS)
    changes = SETTINGS | {"base.path": str(model), "data.path": str(source), "seed": seed}
    start = Run(work / f"sentiment-{seed}-start", changes, BEFORE)
    after = (*AFTER, "compare") if (seed, way) == COMPARED else AFTER
    run = Run(work / f"sentiment-{seed}-{way}", changes | WAYS[way], after, start)
    return Entry((start, run), lambda: read(run, seed, way))


def read(run: Run, seed: int, way: str) -> dict[str, Any]:
    """Take from a run what is reported: numbers, the course of PPO, verdicts, replies side by side, the machine."""
    metrics = run.metrics()
    kept = ("eval_", "compare_", "ppo_kl_final", "ppo_stop", "ppo_saved_iteration", "ppo_iterations", "diagnose_")
    rows = [row for _, row in iter_jsonl(run.folder / "artifacts/evaluate/samples.jsonl")]
    folders = [one.folder / ".costs" for one in (run.start, run) if one is not None]
    costs = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    return {
        "seed": seed,
        "way": way,
        "metrics": {name: value for name, value in sorted(metrics.items()) if name.startswith(kept)},
        "course": [
            {name: float(row[name]) for name in ("score", "kl", "entropy", "length") if row[name]}
            for row in read_rows(run.folder / "plots/ppo.csv")
        ],
        "samples": [{name: row[name] for name in ("prompt", "sft", "ppo", "sft_reward", "ppo_reward")} for row in rows][
            :SHOWN
        ],
        "processor_s": {path.stem: read_json(path).get("cpu_s") for path in costs},
        "machine": machine(),
    }


def table(found: Found) -> str:
    """Render a row for each seed and way, best of n beside, the verdicts, the course and the replies."""
    if not found:
        return "Not run yet.\n"
    parts = [_numbers(found), _verdicts(found), side_by_side(_ordered(found)[0], ("sft", "ppo"))]
    return "\n".join(parts)


def broke_at(course: list[dict[str, float]], share: float = 0.5) -> int | None:
    """The first iteration from which on the entropy stays below `share` of the first iteration's; None if it never
    does. Replies that say one thing again and again begin there."""
    if not course or "entropy" not in course[0]:
        return None
    floor, low = share * course[0]["entropy"], None
    for number, row in enumerate(course):
        if row.get("entropy", 0.0) >= floor:
            low = None
        elif low is None:
            low = number
    return low


def draw(found: Found, path: Path) -> None:
    """Draw the score by iteration of PPO, and on held-out prompts the score over the root of KL, best of n beside."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    course, held_out = figure.subplots(1, 2, sharey=True)
    looks = {"penalty": ("-", "o", "#0072b2"), "free": ("--", "^", "#d55e00")}
    for own in _ordered(found):
        line, marker, colour = looks[own["way"]]
        course.plot([row["score"] for row in own["course"]], line, color=colour, linewidth=1.3)
        course.annotate(str(own["seed"]), (len(own["course"]) - 1, own["course"][-1]["score"]), fontsize=8)
        _point(held_out, own["metrics"], ("eval_reward_ppo", "eval_kl"), (marker, colour), str(own["seed"]))
    first = _ordered(found)[0]["metrics"]
    _point(held_out, first, ("eval_reward_sft", ""), ("s", "black"), "SFT")
    for name in ("best_of_2", "best_of_4"):
        measures = f"compare_reward_{name}", f"compare_kl_{name}"
        _point(held_out, first, measures, ("D", "grey"), name.replace("_", " "))
    for way, (line, marker, colour) in looks.items():
        if any(own["way"] == way for own in found.values()):
            label = {"penalty": "PPO", "free": "PPO without a KL penalty"}[way]
            course.plot([], [], line, marker=marker, markerfacecolor="white", color=colour, label=label)
    course.set(
        title="while it learns, a line a seed", xlabel="iteration of 32 replies", ylabel="VADER's compound score"
    )
    held_out.set(title="300 prompts that it never saw, a circle a seed", xlabel="√KL to SFT, √nats")
    course.legend(frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _point(axis: Any, metrics: dict[str, Any], measures: tuple[str, str], look: tuple[str, str], name: str) -> None:
    """One policy with the 95 % interval of its score; at the left where it has no KL; nothing where it was not made."""
    (y, x), (marker, colour) = measures, look
    if metrics.get(y) is None or (x and metrics.get(x) is None):
        return
    root, value = max(0.0, metrics[x]) ** 0.5 if x else 0.0, metrics[y]
    low, high = metrics.get(f"{y}_low", value), metrics.get(f"{y}_high", value)
    bars = [[value - low], [high - value]]
    axis.errorbar([root], [value], yerr=bars, marker=marker, color=colour, markerfacecolor="white", capsize=2)
    beside = (-10, -3) if name.isdigit() and int(name) % 2 else (6, -3)  # seeds lie close
    axis.annotate(name, (root, value), textcoords="offset points", xytext=beside, fontsize=8)


def _numbers(found: Found) -> str:
    lines = [
        "| seed, way | compound SFT | PPO | gain | KL, nats | win rate (VADER) | win rate (TextBlob)"
        " | best of 4: compound, KL |",
        "|---" * 8 + "|",
    ]
    for own in _ordered(found):
        metrics = own["metrics"]
        cells = [
            span(metrics, name)
            for name in (
                "eval_reward_sft", "eval_reward_ppo", "eval_reward_gain", "eval_kl", "eval_rm_winrate",
                "eval_referee_winrate",
            )
        ]  # fmt: skip
        best = ", ".join(span(metrics, f"compare_{name}_best_of_4") for name in ("reward", "kl"))
        lines.append(f"| {own['seed']}, {own['way']} | " + " | ".join([*cells, best]) + " |")
    return "\n".join(lines) + "\n"


def _verdicts(found: Found) -> str:
    lines = ["| seed, way | verdict | not sound | PPO ended | entropy below half from iteration |", "|---" * 5 + "|"]
    for own in _ordered(found):
        metrics = own["metrics"]
        states = {name: metrics.get(f"diagnose_{name}") for name in _NAMES}
        bad = ", ".join(f"{name} ({state})" for name, state in states.items() if state in ("failed", "suspect"))
        began = broke_at(own["course"])
        lines.append(
            f"| {own['seed']}, {own['way']} | {metrics.get('diagnose_overall')} | {bad or '–'} "
            f"| {metrics.get('ppo_stop_reason')} | {'–' if began is None else began} |"
        )
    return "\n".join(lines) + "\n"


_NAMES = (
    "reward_hacking", "over_optimisation", "verbosity", "mode_collapse", "instability", "sycophancy", "undertrained",
    "reward_model", "termination",
)  # fmt: skip


def _ordered(found: Found) -> list[dict[str, Any]]:
    return sorted(found.values(), key=lambda own: (own["seed"], list(WAYS).index(own["way"])))
