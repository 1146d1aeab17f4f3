"""Time three ways to train a reward model on the same pairs, each in a process of its own.

    python -m benchmarks.reward_ways --way ours --pairs 16

prints one JSON line: seconds of the training, without loading, and the peak memory. `benchmarks.reward_training` runs
all three and makes the table. Every sequence is `tokens` long, half prompt and half response; weights are random.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.workload import GPT2_SMALL, TINY, Shape, clock_of, make_model, peak_gb, tokenizer
from rlhf.core.checkpoint import Checkpoints
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.fast.engine import Engine, load_backbone
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.reward.features import pair_features
from rlhf.reward.fit import FitSettings, fit_head, pair_loss
from rlhf.reward.pairs import TextPair

SHAPES = {"gpt2": GPT2_SMALL, "tiny": TINY, "micro": replace(TINY, layers=2, hidden=32, heads=2, vocab=128)}
LR = 1e-4


def make_pairs(count: int, tokens: int, vocab: int) -> list[TextPair]:
    """Draw random words; with EOS every prompt and response together are `tokens` long."""
    draw = torch.Generator().manual_seed(0)

    def words(length: int) -> str:
        return " ".join(f"t{i}" for i in torch.randint(0, vocab - 1, (length,), generator=draw).tolist())

    half = tokens // 2
    return [TextPair(words(half), words(half - 1), words(half - 1), None, 1) for _ in range(count)]


def ours(shape: Shape, folder: Path, given: argparse.Namespace) -> Callable[[], None]:
    """Train by the stage's own code: features of every pair once, then the head on them."""
    if given.engine == "fast":
        keep_memory()
    backbone, model = _backbone(shape, folder, given.device, given.engine)
    pairs = make_pairs(given.pairs, given.tokens, shape.vocab)
    checkpoints = Checkpoints(folder / "checkpoints", every_s=60.0, every_steps=0)
    settings = FitSettings(
        lr=LR, weight_decay=0.0, epochs=given.epochs, batch_size=64, standardise=False, dropout=0.0, patience=0
    )

    def train() -> None:
        features = pair_features(
            backbone, pairs, model=model, adapter="sft", batch_tokens=given.batch_tokens, checkpoints=checkpoints
        )
        fit_head(features, features[:1], settings, seed=0)

    return train


def naive(shape: Shape, folder: Path, given: argparse.Namespace) -> Callable[[], None]:
    """Train in the usual loop, on the same frozen backbone: every batch goes through it once more in every epoch."""
    backbone, model = _backbone(shape, folder, given.device, "plain")
    decoder = cast(Any, backbone.model).get_base_model().base_model
    ids = _ids(given, shape, backbone.device)
    optimiser = torch.optim.Adam(model.head.parameters(), lr=LR)

    def train() -> None:
        for epoch in range(given.epochs):
            order = torch.randperm(given.pairs, generator=torch.Generator().manual_seed(epoch))
            for part in order.split(given.batch):
                with torch.no_grad():
                    features = decoder(ids[part].flatten(0, 1), use_cache=False).last_hidden_state.mean(1)
                scores = model.head(features.float()).reshape(-1, 2)
                optimiser.zero_grad()
                pair_loss(scores[:, 0] - scores[:, 1]).backward()
                optimiser.step()

    return train


def trl(shape: Shape, folder: Path, given: argparse.Namespace) -> Callable[[], None]:
    """Train by trl's RewardTrainer with LoRA, its source unchanged: the backbone learns, so nothing can be kept."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import GPT2Config, GPT2ForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    words, end = tokenizer(shape.vocab), shape.vocab - 1
    config = GPT2Config(
        n_layer=shape.layers, n_embd=shape.hidden, n_head=shape.heads, vocab_size=shape.vocab, num_labels=1,
        bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    ids = _ids(given, shape, torch.device("cpu"))
    rows = {"chosen_ids": ids[:, 0].tolist(), "rejected_ids": ids[:, 1].tolist()}
    arguments = RewardConfig(
        output_dir=str(folder / "trl"), use_cpu=given.device == "cpu", bf16=False, gradient_checkpointing=False,
        disable_dropout=True, per_device_train_batch_size=given.batch, num_train_epochs=given.epochs,
        max_length=given.tokens, learning_rate=LR, save_strategy="no", report_to="none", disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    trainer = RewardTrainer(
        model=GPT2ForSequenceClassification(config),
        args=arguments,
        processing_class=words,
        train_dataset=Dataset.from_dict(rows),
        peft_config=LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
        ),
    )
    return lambda: trainer.train() and None


WAYS = {"ours": ours, "naive": naive, "trl": trl}


def _backbone(shape: Shape, folder: Path, device: str, engine: Engine) -> tuple[Backbone, RewardModel]:
    base, adapter = make_model(shape, folder)
    backbone = load_backbone(base, {"sft": adapter}, engine=engine, dtype=torch.float32, device=device)
    model = RewardModel(shape.hidden, pooling="mean", pool_over="sequence", backbone_adapter=str(adapter))
    return backbone, model.to(device)


def _ids(given: argparse.Namespace, shape: Shape, device: torch.device) -> Tensor:
    """Encode chosen and rejected of each pair: (pairs, 2, tokens)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, shape.vocab - 1, (given.pairs, 2, given.tokens), generator=draw).to(device)


def main() -> None:
    """Time one way and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=list(WAYS), required=True)
    parser.add_argument("--shape", choices=list(SHAPES), default="gpt2")
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128, help="of each of a pair's two sequences")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="pairs a step where the backbone is in the loop")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens a pass where features are made once")
    parser.add_argument("--engine", choices=["plain", "fast"], default="plain", help="of ours; the stage's is plain")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    now = clock_of(given.device)
    with tempfile.TemporaryDirectory() as folder:
        train = WAYS[given.way](SHAPES[given.shape], Path(folder), given)
        start, worked = now(), time.process_time()
        train()
        seconds, worked = now() - start, time.process_time() - worked
    result = {"seconds": round(seconds, 3), "cpu_seconds": round(worked, 3), **peak_gb(given.device)}
    print(json.dumps({"way": given.way, "config": vars(given), **result}))


if __name__ == "__main__":
    main()
