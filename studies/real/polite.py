"""Politeness on a real model: a learned reward where the preference is plain.

Pairs are a polite and an impolite answer to an instruction. SFT learns from both, so that it has no manners of its own
yet; the reward model is a head on its frozen hidden states. PPO and DPO start from that SFT policy. Judges are a second
reward model, fitted on other prompts' pairs, and a list of words (studies/real/politeness.py).
"""

import json
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl, read_json, write_jsonl
from rlhf.core.costs import machine
from rlhf.core.curves import read_rows
from studies.command import Entry, Found, span
from studies.real.data import shared
from studies.real.model import local_model, side_by_side
from studies.real.politeness import ahead, win_rate
from studies.run import Run

OFFLINE = tuple(f"offline@{name}" for name in ("dpo", "ipo", "rrhf", "rejection", "best_of_n"))
BEFORE = ("prepare", "base", "conformance", "sft", "reward")
AFTER = ("ppo", "evaluate", "diagnose", *OFFLINE, "compare")

# Sizes for two shared processor cores.
SETTINGS: dict[str, object] = {
    "profile": "smollm2",
    "data.source": "files",
    "data.format": "pairs",
    "data.template": "dialogue",
    "data.max_tokens": 80,
    "data.min_tokens": 4,
    "data.validation_share": 0.06,
    "data.test_share": 0.25,
    "base.source": "path",
    "sft.replies": "both",
    "sft.epochs": 1,
    "sft.max_examples": 640,
    "sft.eval_examples": 64,
    "sft.eval_every": 20,
    "sft.warmup_steps": 5,
    "sft.lr": 5.0e-4,
    "sft.samples": 0,
    "sft.sample_tokens": 32,
    "reward.pool_over": "response",
    "reward.logprobs": True,
    "reward.head_units": 64,
    "reward.referee_share": 0.25,
    "reward.normalise_prompts": 64,
    "reward.response_tokens": 32,
    "reward.batch_tokens": 2048,
    "ppo.batch": 32,
    "ppo.minibatch": 16,
    "ppo.microbatch": 16,
    "ppo.epochs": 4,
    "ppo.iterations": 16,
    "ppo.response_tokens": 32,
    "ppo.max_prompt_tokens": 48,
    "ppo.lr": 5.0e-4,
    "ppo.kl_coef": 0.1,
    "offline.shared.response_tokens": 32,
    "offline.shared.max_examples": 320,
    "offline.shared.eval_examples": 48,
    "offline.shared.eval_every": 10,
    "offline.shared.warmup_steps": 3,
    "offline.dpo.run": True,
    "offline.dpo.beta": 0.1,
    "offline.dpo.lr": 5.0e-4,
    "evaluate.prompts": 220,
    "evaluate.ood_prompts": 0,
    "evaluate.probes": 0,
    "evaluate.samples": 220,
    "evaluate.response_tokens": 32,
    "evaluate.batch_size": 44,
    "evaluate.batch_tokens": 2048,
    "evaluate.exact_kl_prompts": 0,
    "evaluate.tax.items": 100,
}
KEPT = (
    "reward_accuracy", "reward_length_baseline", "reward_over_length", "reward_referee_accuracy", "reward_train_pairs",
    "reward_test_pairs", "eval_", "compare_", "ppo_kl_final", "ppo_stop", "ppo_iterations", "diagnose_",
)  # fmt: skip


def pairs(source: Path, target: Path) -> Path:
    """Write prompt, chosen and rejected of each row of the source; the prompt is instruction, blank line, input."""
    rows = [
        {
            "prompt": "\n\n".join(text for text in (row["instruction"], row["input"]) if text),
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
        for row in json.loads(source.read_text(encoding="utf-8"))
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(target, rows)
    return target


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan one row: SFT, reward model, PPO and DPO of a seed.

    Raises:
        UserError: the model, the pairs or the benchmarks are not there.
    """
    source = pairs(shared("polite-rewrites/instruction-data-with-preference.json"), work / "data" / "polite.jsonl")
    changes = SETTINGS | {
        "base.path": str(local_model()),
        "data.path": str(source),
        "evaluate.tax.path": str(shared("tax/lambada_500.jsonl").parent),
        "seed": seed,
    }
    start = Run(work / f"polite-{seed}-start", changes, BEFORE)
    run = Run(work / f"polite-{seed}", changes, AFTER, start)
    return Entry((start, run), lambda: read(run, seed))


def read(run: Run, seed: int) -> dict[str, Any]:
    """Take from a run what is reported: numbers, the word list's win rates, PPO's course, replies, the machine."""
    ppo = [row for _, row in iter_jsonl(run.folder / "artifacts/evaluate/samples.jsonl")]
    dpo = [row for _, row in iter_jsonl(run.folder / "artifacts/compare/samples.jsonl")]
    test = [row for _, row in iter_jsonl(run.folder / "artifacts/prepare/pairs/test.jsonl")]
    judged = {
        "winrate_ppo": ([row["ppo"] for row in ppo], [row["sft"] for row in ppo]),
        "winrate_dpo": ([row["dpo"] for row in dpo], [row["sft"] for row in dpo]),
        "accuracy": ([row["chosen"] for row in test], [row["rejected"] for row in test]),
    }
    words: dict[str, Any] = {}
    for name, (own, other) in judged.items():
        words |= win_rate(own, other).named(f"words_{name}")
        words |= dict(zip((f"words_{name}_ahead", f"words_{name}_behind"), ahead(own, other), strict=True))
    folders = [one.folder / ".costs" for one in (run.start, run) if one is not None]
    costs = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    return {
        "seed": seed,
        "metrics": {name: value for name, value in sorted(run.metrics().items()) if name.startswith(KEPT)} | words,
        "course": [
            {name: float(row[name]) for name in ("score", "kl", "entropy", "length") if row[name]}
            for row in read_rows(run.folder / "plots/ppo.csv")
        ],
        "samples": [
            {"prompt": a["prompt"], "sft": a["sft"], "ppo": a["ppo"], "dpo": b["dpo"]}
            for a, b in zip(ppo, dpo, strict=True)
        ][:8],
        "processor_s": {path.stem: read_json(path).get("cpu_s") for path in costs},
        "machine": machine(),
    }


def table(found: Found) -> str:
    """Render the reward model, a row for each policy and seed, the verdicts and replies side by side."""
    if not found:
        return "Not run yet.\n"
    rows = [found[seed] for seed in sorted(found, key=int)]
    return "\n".join([_reward(rows), _policies(rows), tax(rows), side_by_side(rows[0], ("sft", "ppo", "dpo"))])


def _reward(rows: list[dict[str, Any]]) -> str:
    names = ("reward_accuracy", "reward_length_baseline", "reward_referee_accuracy", "words_accuracy")
    lines = ["| seed | reward model | length | referee | list of words | pairs to learn, to judge |", "|---" * 6 + "|"]
    for own in rows:
        numbers = own["metrics"]
        sizes = f"{numbers['reward_train_pairs']}, {numbers['reward_test_pairs']}"
        lines.append(f"| {own['seed']} | " + " | ".join(span(numbers, name) for name in names) + f" | {sizes} |")
    return "\n".join(lines) + "\n"


def _policies(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| seed, policy | reward model | KL, nats | win rate (reward model) | win rate (referee) | win rate (words) "
        "| ahead, behind (words) | length, tokens | verdict |",
        "|---" * 9 + "|",
    ]
    for own in rows:
        numbers = own["metrics"]
        for policy in ("sft", "ppo", "dpo"):
            names = [f"compare_{name}_{policy}" for name in ("reward", "kl", "rm_winrate", "referee_winrate")]
            cells = [span(numbers, name) for name in (*names, f"words_winrate_{policy}")]
            sides = [numbers.get(f"words_winrate_{policy}_{side}", "–") for side in ("ahead", "behind")]
            cells += [f"{sides[0]}, {sides[1]}", span(numbers, f"compare_length_{policy}", 1)]
            verdict = numbers.get("diagnose_overall") if policy == "ppo" else None
            lines.append(f"| {own['seed']}, {policy} | " + " | ".join(cells) + f" | {verdict or '–'} |")
    return "\n".join(lines) + "\n"


def tax(rows: list[dict[str, Any]]) -> str:
    lines = ["| seed | benchmark | base | SFT | PPO |", "|---" * 5 + "|"]
    for own in rows:
        numbers = own["metrics"]
        marks = sorted(
            name.removeprefix("eval_tax_").removesuffix("_base")
            for name in numbers
            if name.startswith("eval_tax_") and name.endswith("_base") and numbers[name] is not None
        )
        for mark in marks:
            cells = [span(numbers, f"eval_tax_{mark}_{policy}") for policy in ("base", "sft", "ppo")]
            lines.append(f"| {own['seed']} | `{mark}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
