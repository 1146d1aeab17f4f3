"""A method run in miniature, and the policy that it wrote, read with plain transformers and peft."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.core.artifacts import write_metrics
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.layout import Layout
from rlhf.offline.params import SECTIONS, SharedParams
from rlhf.offline.run import Process, run_method
from tests.sft.helpers import cpu

SHARED: dict[str, object] = {
    "engine": "fast", "response_tokens": 8, "temperature": 1.0, "sample_batch": 4, "batch_tokens": 400,
    "max_examples": 0, "eval_examples": 5, "batch_size": 4, "group_by_length": True, "accumulate": 1,
    "schedule": "constant_with_warmup", "warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 1.0, "eval_every": 3,
    "log_every": 1, "shards": 1,
}  # fmt: skip
METHOD: dict[str, dict[str, object]] = {
    "dpo": {"run": True, "beta": 0.3, "lr": 1e-3, "epochs": 2},
    "ipo": {"run": True, "beta": 0.5, "lr": 1e-3, "epochs": 2},
    "rrhf": {"run": True, "n": 3, "sft_coef": 1.0, "lr": 1e-3, "epochs": 2},
    "rejection": {"run": True, "n": 3, "lr": 1e-3, "epochs": 2},
    "best_of_n": {"run": True, "n": [1, 2, 4]},
}


def run(
    at: Layout, method: str, *, seed: int = 0, shared: dict[str, object] | None = None, **changes: object
) -> dict[str, object]:
    """Run it and give its metrics, without their prefix."""
    found = run_method(
        method,
        SECTIONS[method].model_validate(METHOD[method] | changes),
        SharedParams.model_validate(SHARED | (shared or {})),
        at,
        Process(cpu(seed), Checkpoints(at.root / "checkpoints" / method, every_s=1e9, every_steps=0)),
    )
    write_metrics(at.metrics(f"offline_{method}"), found)
    return {name.removeprefix(f"offline_{method}_"): value for name, value in found.items()}


class Plain:
    """A policy by hand: one sequence at a time, no padding, no masks."""

    def __init__(self, base: Path, adapter: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()

    def logprobs(self, prompt: str, response: str) -> list[float]:
        """Of the response's tokens and its EOS."""
        before = self.tokenizer(prompt)["input_ids"]
        return self._logprobs(before, [*self.tokenizer(response)["input_ids"], self.tokenizer.eos_token_id])

    def of_ids(self, prompt: list[int], response: list[int]) -> float:
        """log p(response | prompt) of token ids."""
        return sum(self._logprobs(prompt, response))

    def _logprobs(self, before: list[int], after: list[int]) -> list[float]:
        ids = before + after
        with torch.no_grad():
            table = self.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return [float(table[index - 1, ids[index]]) for index in range(len(before), len(ids))]
