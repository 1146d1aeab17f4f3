"""Chat on a real model: real conversations by the model's own template, through all stages and out again.

Sizes are those of a demonstration: that every stage takes conversations, and that the exported policy answers in plain
transformers as it does here. No gain is aimed at. Pairs are those whose conversation is short.
"""

from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl, read_json
from rlhf.core.costs import machine
from studies.command import Entry, Found, span
from studies.real.data import shared
from studies.real.model import local_model, side_by_side
from studies.run import Run

BEFORE = ("prepare", "base", "conformance", "sft", "reward")
AFTER = ("ppo", "evaluate", "diagnose")
LONGEST = 24  # tokens of an answer that both are asked for
ASKED = 4  # conversations that are put to the exported policy

# Sizes for two shared processor cores.
SETTINGS: dict[str, object] = {
    "profile": "smollm2",
    "data.source": "files",
    "data.format": "auto",
    "data.template": "chat",
    "data.max_tokens": 512,
    "data.validation_share": 0.1,
    "data.test_share": 0.2,
    "base.source": "path",
    "sft.max_examples": 48,
    "sft.batch_size": 4,
    "sft.accumulate": 2,
    "sft.eval_examples": 8,
    "sft.eval_every": 4,
    "sft.warmup_steps": 1,
    "sft.samples": 0,
    "sft.sample_tokens": LONGEST,
    "reward.referee_share": 0.0,
    "reward.normalise_prompts": 8,
    "reward.response_tokens": LONGEST,
    "reward.batch_tokens": 2048,
    "ppo.batch": 8,
    "ppo.minibatch": 8,
    "ppo.microbatch": 4,
    "ppo.epochs": 2,
    "ppo.iterations": 4,
    "ppo.response_tokens": LONGEST,
    "ppo.max_prompt_tokens": 160,
    "ppo.missing_eos": "keep",
    "evaluate.prompts": 16,
    "evaluate.ood_prompts": 0,
    "evaluate.probes": 0,
    "evaluate.samples": 8,
    "evaluate.response_tokens": LONGEST,
    "evaluate.batch_size": 8,
    "evaluate.batch_tokens": 2048,
    "evaluate.exact_kl_prompts": 0,
    "evaluate.tax.items": 1,
}
KEPT = (
    "prepare_rows", "prepare_pairs_", "sft_train_examples", "sft_perplexity_", "reward_train_pairs", "reward_accuracy",
    "ppo_iterations", "ppo_stop", "eval_prompts", "eval_kl", "eval_reward_gain",
)  # fmt: skip


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan one row: all stages on the conversations, and the exported policy asked.

    Raises:
        UserError: the model or the conversations are not there.
    """
    changes = SETTINGS | {
        "base.path": str(local_model()),
        "data.path": str(shared("chat-preferences/dpo_en_demo.json")),
        "seed": seed,
    }
    run = Run(work / f"chat-{seed}", changes, (*BEFORE, *AFTER))
    return Entry((run,), lambda: read(run, seed))


def read(run: Run, seed: int) -> dict[str, Any]:
    """Take from a run what is reported, and ask its exported policy."""
    rows = [row for _, row in iter_jsonl(run.folder / "artifacts/evaluate/samples.jsonl")]
    costs = sorted((run.folder / ".costs").glob("*.json"))
    return {
        "seed": seed,
        "metrics": {name: value for name, value in sorted(run.metrics().items()) if name.startswith(KEPT)},
        "answers": answers(run),
        "samples": [{name: row[name] for name in ("prompt", "sft", "ppo")} for row in rows][:4],
        "processor_s": {path.stem: read_json(path).get("cpu_s") for path in costs},
        "machine": machine(),
    }


def answers(run: Run) -> list[dict[str, Any]]:
    """Ask the exported policy by plain transformers and the run's own by its sampler, greedily, the same held-out
    conversations; list prompt, both answers, and whether the token ids of prompt and answer are the same."""
    import torch
    from transformers import pipeline

    from rlhf.core.layout import Layout
    from rlhf.export.run import Order, fulfil
    from rlhf.models.policy.backbone import Backbone
    from rlhf.models.policy.sampling import sample_texts
    from rlhf.models.policy.settings import Sampling

    at = Layout(run.folder)
    exported = run.folder / "exports" / "ppo" / "merged"
    if not exported.is_dir():
        fulfil(at, Order("ppo", "merged", exported))
    found = [row for _, row in iter_jsonl(run.folder / "artifacts/prepare/pairs/test.jsonl")]
    asked = sorted(found, key=lambda row: len(str(row["prompt"])))[:ASKED]
    backbone = Backbone.load(at.base, {"ppo": at.artifacts / "ppo"}, dtype=torch.float32, device="cpu")
    own = sample_texts(
        backbone,
        [row["prompt"] for row in asked],
        Sampling(LONGEST, 1.0),
        adapter="ppo",
        stream=None,
        batch_size=ASKED,
    )
    plain: Any = pipeline("text-generation", model=str(exported), device="cpu", dtype=torch.float32)
    listed = []
    for row, sample in zip(asked, own, strict=True):
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["conversation"]]
        (said,) = plain(turns, max_new_tokens=LONGEST, do_sample=False, return_tensors=True)
        ids = [*backbone.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"], *sample.response_ids]
        reply = plain.tokenizer.decode(said["generated_token_ids"][len(ids) - len(sample.response_ids) :])
        same = list(said["generated_token_ids"]) == ids
        listed.append({"conversation": turns, "here": sample.response, "transformers": reply, "same_tokens": same})
    return listed


def table(found: Found) -> str:
    """Render what came through each stage, and how many answers are the same."""
    if not found:
        return "Not run yet.\n"
    lines = [
        "| seed | pairs learnt from, to judge | reward model | PPO | KL, nats | same tokens as plain transformers |",
        "|---" * 6 + "|",
    ]
    rows = [found[seed] for seed in sorted(found, key=int)]
    for own in rows:
        numbers = own["metrics"]
        same = sum(answer["same_tokens"] for answer in own["answers"])
        sizes = f"{numbers.get('reward_train_pairs')}, {numbers.get('prepare_pairs_test')}"
        ended = f"{numbers.get('ppo_iterations')} iterations, {numbers.get('ppo_stop_reason')}"
        lines.append(
            f"| {own['seed']} | {sizes} | {span(numbers, 'reward_accuracy')} | {ended} | {span(numbers, 'eval_kl')} "
            f"| {same} of {len(own['answers'])} |"
        )
    return "\n".join(lines) + "\n\n" + side_by_side(rows[0], ("sft", "ppo"))
