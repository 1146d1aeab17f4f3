"""Helpfulness on a real model: what people preferred in real conversations, where the preference is anything but plain.

`reward`: how well a reward model on frozen states tells the better reply, by five folds (studies/real/folds.py).
`policies`: SFT, a reward model and PPO on fewer and shorter pairs, judged by a referee on a sentence encoder, which
says itself whether it beats length. `alternatives`: DPO and best of n beside that PPO. `tuned`: the reward model of
`policies` with the backbone trained too.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl, read_json, write_bytes
from rlhf.core.costs import machine
from rlhf.core.curves import read_rows
from rlhf.core.layout import Layout
from studies.command import Entry, Found, span
from studies.real.data import shared
from studies.real.model import local_encoder, local_model, side_by_side
from studies.real.polite import tax
from studies.run import Run

OFFLINE = tuple(f"offline@{name}" for name in ("dpo", "ipo", "rrhf", "rejection", "best_of_n"))
BEFORE = ("prepare", "base", "conformance", "sft")
AFTER = ("reward", "ppo", "evaluate", "diagnose")
FILES = ("hh-helpful-base/test.jsonl.gz", "hh-helpful-rejection-sampled/test.jsonl.gz")
OVER_SFT = ("rm_winrate", "rm_lc_winrate", "referee_winrate")
COURSE = ("score", "kl", "entropy", "length")
WAYS = ("reward", "policies", "alternatives", "tuned")

# What all of it shares: the pairs, which hold whole conversations, and the model.
COMMON: dict[str, object] = {
    "profile": "smollm2",
    "data.source": "files",
    "data.format": "hh",
    "data.template": "dialogue",
    "data.min_tokens": 4,
    "base.source": "path",
    "sft.samples": 0,
    "reward.pool_over": "response",
    "reward.batch_tokens": 2048,
}
# The model as it is: one step of no size. Nothing learns from replies that are to be judged.
AS_IT_IS: dict[str, object] = {
    "data.max_tokens": 256,
    "sft.max_examples": 16,
    "sft.eval_examples": 16,
    "sft.warmup_steps": 0,
    "sft.lr": 1.0e-12,
    "reward.dropout": 0.2,
}
# Sizes for two shared processor cores.
TRAINED: dict[str, object] = {
    "data.max_tokens": 160,
    "data.validation_share": 0.06,
    "data.test_share": 0.25,
    "sft.max_examples": 640,
    "sft.eval_examples": 48,
    "sft.eval_every": 20,
    "sft.warmup_steps": 5,
    "sft.lr": 3.0e-4,
    "sft.sample_tokens": 40,
    "reward.logprobs": True,
    "reward.head_units": 64,
    "reward.dropout": 0.2,
    "reward.referee_share": 0.3,
    "reward.normalise_prompts": 64,
    "reward.response_tokens": 40,
    "ppo.batch": 32,
    "ppo.minibatch": 16,
    "ppo.microbatch": 16,
    "ppo.epochs": 4,
    "ppo.iterations": 10,
    "ppo.response_tokens": 40,
    "ppo.max_prompt_tokens": 96,
    "ppo.lr": 5.0e-4,
    "ppo.kl_coef": 0.1,
    "ppo.missing_eos": "keep",
    "offline.shared.response_tokens": 40,
    "offline.shared.max_examples": 256,
    "offline.shared.eval_examples": 32,
    "offline.shared.eval_every": 8,
    "offline.shared.warmup_steps": 3,
    "offline.shared.batch_tokens": 2048,
    "offline.dpo.run": True,
    "offline.dpo.beta": 0.1,
    "offline.dpo.lr": 5.0e-4,
    "offline.best_of_n.run": True,
    "offline.best_of_n.n": [4],
    "evaluate.prompts": 120,
    "evaluate.ood_prompts": 30,
    "evaluate.probes": 0,
    "evaluate.samples": 40,
    "evaluate.response_tokens": 40,
    "evaluate.batch_size": 40,
    "evaluate.batch_tokens": 2048,
    "evaluate.exact_kl_prompts": 0,
    "evaluate.tax.items": 60,
    # Replies are cut off at 40 tokens by design, so that few end by themselves is no fault.
    "diagnose.termination.unended.suspect": 1.01,
    "diagnose.termination.unended.failed": 1.02,
    "diagnose.termination.unended.source": "replies of this task are cut off by design",
}
TUNED: dict[str, object] = {
    "reward.train": "lora",
    "reward.tune.epochs": 1,
    "reward.tune.lr": 5.0e-4,
    "reward.tune.batch_size": 16,
}
KEPT = (
    "reward_accuracy", "reward_length_baseline", "reward_over_length", "reward_referee_", "reward_train_pairs",
    "reward_test_pairs", "eval_", "compare_", "ppo_kl_final", "ppo_stop", "ppo_iterations", "diagnose_",
)  # fmt: skip


def collected(sources: Sequence[Path], elsewhere: Path, folder: Path) -> Path:
    """Write a folder of preferences: gzipped JSONL files one behind the other, and prompts from elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = b"".join(gzip.decompress(source.read_bytes()) for source in sources)
    for name, content in (("pairs.jsonl", lines), ("ood.jsonl", elsewhere.read_bytes())):
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            write_bytes(folder / name, content)
    return folder


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan one row. The runs of `reward` are of seed 0 whatever the seed, which draws the folds and starts the heads.

    Raises:
        UserError: the model, the encoder, the pairs, the prompts or the benchmarks are not there.
    """
    elsewhere = shared("mtbench-prompts/question.jsonl")
    source = collected([shared(name) for name in FILES], elsewhere, work / "data" / "helpful")
    encoder = local_encoder()
    changes = COMMON | {"base.path": str(local_model()), "data.path": str(source)}
    if way == "reward":
        run = Run(work / "helpful-reward", changes | AS_IT_IS | {"seed": 0}, BEFORE)
        return Entry((run,), lambda: read_folds(run, encoder, seed))
    changes |= TRAINED | {
        "evaluate.tax.path": str(shared("tax/lambada_500.jsonl").parent),
        "referee.backbone": str(encoder),
        "seed": seed,
    }
    start = Run(work / f"helpful-{seed}-start", changes, BEFORE)
    ppo = Run(work / f"helpful-{seed}-policies", changes, AFTER, start)
    runs = {
        "policies": (start, ppo),
        "alternatives": (start, ppo, Run(work / f"helpful-{seed}-alternatives", changes, (*OFFLINE, "compare"), ppo)),
        "tuned": (start, Run(work / f"helpful-{seed}-tuned", changes | TUNED, ("reward",), start)),
    }[way]
    return Entry(runs, lambda: read(runs[-1], seed, way))


def read_folds(run: Run, encoder: Path, seed: int) -> dict[str, Any]:
    """Fit and judge by five folds."""
    from studies.real.folds import cross_validated

    found = cross_validated(Layout(run.folder), encoder, seed)
    prepared = {name: value for name, value in run.metrics().items() if name.startswith("prepare_rows")}
    return {"seed": seed, "way": "reward", "metrics": found | prepared, "machine": machine()}


def read(run: Run, seed: int, way: str) -> dict[str, Any]:
    """Take from a run what is reported: numbers, PPO's course, replies, the machine."""
    folders = [one.folder / ".costs" for one in (run.start, run) if one is not None]
    costs = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    found = {
        "seed": seed,
        "way": way,
        "metrics": {name: value for name, value in sorted(run.metrics().items()) if name.startswith(KEPT)},
        "processor_s": {path.stem: read_json(path).get("cpu_s") for path in costs},
        "machine": machine(),
    }
    if way == "tuned":
        return found
    stage, names = ("evaluate", ("sft", "ppo")) if way == "policies" else ("compare", ("sft", "dpo"))
    rows = [row for _, row in iter_jsonl(run.folder / "artifacts" / stage / "samples.jsonl")]
    found["samples"] = [{"prompt": row["prompt"], **{name: row[name] for name in names}} for row in rows][:6]
    if way == "policies":
        course = read_rows(run.folder / "plots/ppo.csv")
        found["course"] = [{name: float(row[name]) for name in COURSE if row[name]} for row in course]
    return found


def table(found: Found) -> str:
    """Render the reward models, a row for each policy and seed, the tax, and replies side by side. A referee that does
    not beat the longer reply is no judge, and its win rates are not shown."""
    if not found:
        return "Not run yet.\n"
    parts = [_folds(_of(found, "reward")), _stage([*_of(found, "policies"), *_of(found, "tuned")])]
    if made := _of(found, "policies"):
        parts += [_policies(made, _of(found, "alternatives")), tax(made), side_by_side(made[0], ("sft", "ppo"))]
    return "\n".join(part for part in parts if part)


def _of(found: Found, way: str) -> list[dict[str, Any]]:
    return sorted((own for own in found.values() if own["way"] == way), key=lambda own: int(own["seed"]))


def _folds(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    heads = {
        "length": "the longer reply wins",
        "linear": "frozen, linear",
        "hidden": "frozen, log-probabilities, hidden layer of 64",
        "encoder": "sentence encoder, linear",
    }
    lines = ["| seed of the folds, judge | pairs | right | over length |", "|---" * 4 + "|"]
    for own in rows:
        numbers = own["metrics"]
        for name, title in heads.items():
            over = span(numbers, f"{name}_over_length", 3)
            lines.append(f"| {own['seed']}, {title} | {numbers['pairs']} | {span(numbers, name, 3)} | {over} |")
    return "\n".join(lines) + "\n"


def _stage(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    shown = ("accuracy", "length_baseline", "over_length", "referee_accuracy", "referee_over_length")
    names = [f"reward_{name}" for name in shown]
    lines = [
        "| seed, reward model | pairs to learn, for the referee, to judge | right | length | over length | referee "
        "| referee over length |",
        "|---" * 7 + "|",
    ]
    for own in rows:
        numbers = own["metrics"]
        sizes = ", ".join(str(numbers.get(f"reward_{name}_pairs")) for name in ("train", "referee", "test"))
        title = "tuned" if own["way"] == "tuned" else "frozen"
        lines.append(
            f"| {own['seed']}, {title} | {sizes} | " + " | ".join(span(numbers, name) for name in names) + " |"
        )
    return "\n".join(lines) + "\n"


def _policies(rows: list[dict[str, Any]], alternatives: list[dict[str, Any]]) -> str:
    lines = [
        "| seed, policy | reward model | KL, nats | win rate (reward model) | the same at equal length "
        "| win rate (referee) | win rate on MT-bench's prompts (reward model) | length, tokens | verdict |",
        "|---" * 9 + "|",
    ]
    for own in rows:
        numbers = own["metrics"]
        lines.append(_line(numbers, own["seed"], "sft", {}, "eval_"))
        over = {name: f"eval_{name}" for name in OVER_SFT} | {"kl": "eval_kl", "ood": "eval_ood_rm_winrate"}
        lines.append(_line(numbers, own["seed"], "ppo", over, "eval_"))
        for other in (other["metrics"] for other in alternatives if other["seed"] == own["seed"]):
            for policy in ("dpo", "best_of_4"):
                over = {name: f"compare_{name}_{policy}" for name in (*OVER_SFT, "kl")}
                lines.append(_line(other, own["seed"], policy, over, "compare_"))
    return "\n".join(lines) + "\n"


def _line(numbers: dict[str, Any], seed: int, policy: str, names: dict[str, str], stage: str) -> str:
    """A policy's row. `names`: under which names its distance and its win rates over SFT are among the metrics."""
    cells = [span(numbers, f"{stage}reward_{policy}"), span(numbers, names.get("kl", ""))]
    cells += [span(numbers, names.get(name, "")) for name in OVER_SFT]
    if policy != "sft" and numbers.get("reward_referee_beats_length") is False:
        cells[-1] = "no judge"
    cells += [span(numbers, names.get("ood", "")), span(numbers, f"{stage}length_{policy}", 1)]
    verdict = numbers.get("diagnose_overall") if policy == "ppo" else None
    return f"| {seed}, {policy.replace('_', ' ')} | " + " | ".join(cells) + f" | {verdict or '–'} |"
