"""Sentiment on a real model: the first task that PPO on language models was shown on (Ziegler et al. 2019).

The policy begins as SmolLM2-135M-Instruct itself: SFT takes one step of no size. The reward is VADER's compound score
of the reply alone, and TextBlob's polarity, another word list that PPO never sees, is the referee.
"""

from pathlib import Path

from studies.real.data import cut_short, shared
from studies.run import ROOT, Run

WORDS = 16  # of a reply in the data, which teaches nothing here
BEFORE = ("prepare", "base", "conformance", "sft", "reward")

# Sizes for two shared processor cores. PPO's rewards are the function's own, so no model of them is fitted with care.
SETTINGS: dict[str, object] = {
    "profile": "smollm2",
    "data.source": "files",
    "data.format": "pairs",
    "data.template": "dialogue",
    "data.max_tokens": 64,
    "data.min_tokens": 4,
    "data.max_pairs": 800,
    "data.validation_share": 0.05,
    "data.test_share": 0.4,
    "base.source": "path",
    "base.path": str(ROOT / "inputs" / "model" / "smollm2"),
    "sft.epochs": 1,
    "sft.max_examples": 16,
    "sft.eval_examples": 16,
    "sft.warmup_steps": 0,
    "sft.lr": 1.0e-12,
    "sft.samples": 0,
    "sft.sample_tokens": 24,
    "reward.referee_share": 0.0,
    "reward.normalise_prompts": 32,
    "reward.response_tokens": 24,
    "reward.batch_tokens": 2048,
    "ppo.source": "function",
    "ppo.function": "vader_reward:compound",
    "ppo.function_path": "examples/vader",
    "ppo.batch": 32,
    "ppo.minibatch": 16,
    "ppo.microbatch": 16,
    "ppo.epochs": 3,
    "ppo.iterations": 20,
    "ppo.response_tokens": 24,
    "ppo.max_prompt_tokens": 28,
    "ppo.lr": 6.0e-4,
    "ppo.kl_coef": 0.03,
    "ppo.missing_eos": "keep",
    "ppo.score_clip": 0.0,
    "offline.shared.response_tokens": 24,
    "evaluate.prompts": 300,
    "evaluate.ood_prompts": 0,
    "evaluate.probes": 0,
    "evaluate.response_tokens": 24,
    "evaluate.batch_size": 50,
    "evaluate.batch_tokens": 2048,
    "evaluate.exact_kl_prompts": 0,
}


def settings(work: Path) -> dict[str, object]:
    """The parameters, with the data that they need made ready in `work`."""
    source = shared("hh-helpful-base/test.jsonl.gz")
    return SETTINGS | {"data.path": str(cut_short(source, work / "data" / "sentiment.jsonl", words=WORDS))}


def run(work: Path, seed: int, *, kl_coef: float | None = None) -> Run:
    """Plan the run of a seed; with another `kl_coef` it starts from the same SFT policy."""
    changes = settings(work) | {"seed": seed}
    start = Run(work / f"sentiment-{seed}-start", changes, BEFORE)
    if kl_coef is None:
        return Run(work / f"sentiment-{seed}", changes, ("ppo", "evaluate"), start)
    more: dict[str, object] = {"ppo.kl_coef": kl_coef}
    return Run(work / f"sentiment-{seed}-kl{kl_coef:g}", changes | more, ("ppo", "evaluate"), start)
