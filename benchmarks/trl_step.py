"""Time the peer's PPO step: trl 1.12.0's own PPOTrainer, its source unchanged, in the shapes of `workload`.

It runs in an environment of its own (`benchmarks.peer` makes it), so it imports nothing of this project. Three calls
are wrapped to read the clock: sampling, the shuffle that begins an epoch, and the log line that ends a step. One JSON
line comes out, in the form of `workload`'s.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")

import torch
import trl.experimental.ppo.ppo_trainer as peer
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast

EOS = "<|endoftext|>"
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["layers", "hidden", "heads", "vocab", "batch", "prompt", "response", "shortest", "epochs"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--value", choices=["lora", "full"], default="lora", help="how the value model is trained")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--microbatch", type=int, default=0, help="episodes of a pass of the update; 0: all of them")
    parser.add_argument("--rollout-batch", type=int, default=0, help="episodes sampled and scored at once; 0: all")
    return parser.parse_args()


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    words = {f"t{i}": i for i in range(vocab - 1)} | {EOS: vocab - 1}
    made = Tokenizer(models.WordLevel(words, unk_token=EOS))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=EOS, pad_token=EOS, padding_side="left")


def trainer(args: argparse.Namespace, folder: str) -> "peer.PPOTrainer":
    torch.manual_seed(0)
    shape = {
        "n_layer": args.layers, "n_embd": args.hidden, "n_head": args.heads, "vocab_size": args.vocab,
        "bos_token_id": args.vocab - 1, "eos_token_id": args.vocab - 1, "pad_token_id": args.vocab - 1,
    }  # fmt: skip
    half, micro = args.dtype == "bfloat16", args.microbatch or args.batch
    # As users load them: frozen weights in the run's precision; peft keeps the adapters in float32.
    dtype = torch.bfloat16 if half else torch.float32
    value = GPT2ForSequenceClassification(GPT2Config(**shape, num_labels=1)).to(dtype)
    reward = GPT2ForSequenceClassification(GPT2Config(**shape, num_labels=1))
    if args.value == "lora":
        value = get_peft_model(value, LoraConfig(task_type="SEQ_CLS", **LORA))
    ids = torch.randint(0, args.vocab - 1, (args.batch * args.steps, args.prompt))
    config = peer.PPOConfig(
        output_dir=folder, use_cpu=args.device == "cpu", bf16=half, report_to="none", save_strategy="no",
        disable_tqdm=True, logging_steps=1, gradient_checkpointing=False, per_device_train_batch_size=micro,
        gradient_accumulation_steps=args.batch // micro, num_mini_batches=1, num_ppo_epochs=args.epochs,
        total_episodes=args.batch * args.steps, local_rollout_forward_batch_size=args.rollout_batch or args.batch,
        response_length=args.response, num_sample_generations=0, temperature=1.0, learning_rate=1e-5,
        stop_token="eos" if args.shortest < args.response else None,
    )  # fmt: skip
    return peer.PPOTrainer(
        args=config,
        processing_class=tokenizer(args.vocab),
        model=GPT2LMHeadModel(GPT2Config(**shape)).to(dtype),
        ref_model=None,
        reward_model=reward.to(dtype).eval().requires_grad_(False),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": ids.tolist()}),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
    )


class Laps:
    """The times at which the parts of each step begin; a step ends with its log line."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.steps, self.marks = args, [], []

    def now(self) -> float:
        if self.args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def sampling(self, function):
        def call(*given, **named):
            self.marks = [self.now()]
            sequences, logits = function(*given, **named)
            if self.args.shortest < self.args.response:
                self.end_responses(sequences)
            self.marks.append(self.now())
            return sequences, logits

        return call

    def end_responses(self, sequences: torch.Tensor) -> None:
        """Put EOS where responses of the given lengths end: evenly spread, in a random order."""
        args = self.args
        even = torch.linspace(args.shortest, args.response, args.batch).round().long()
        order = torch.randperm(args.batch, generator=torch.Generator().manual_seed(len(self.steps)))
        sequences[torch.arange(args.batch), args.prompt + even[order] - 1] = args.vocab - 1

    def shuffling(self, function):
        def call(*given, **named):
            if len(self.marks) == 2:
                self.marks.append(self.now())
            return function(*given, **named)

        return call

    def logging(self, function):
        def call(*given, **named):
            start, sampled, scored = self.marks
            now = self.now()
            self.steps.append(
                {"rollout": sampled - start, "scoring": scored - sampled, "update": now - scored, "total": now - start}
            )
            return function(*given, **named)

        return call


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    laps = Laps(args)
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(args, folder)
        peer.batch_generation = laps.sampling(peer.batch_generation)
        peer.np.random.permutation = laps.shuffling(peer.np.random.permutation)
        made.log = laps.logging(made.log)
        screen, sys.stdout = sys.stdout, sys.stderr
        made.train()
        sys.stdout = screen
    used = laps.steps[1:] or laps.steps  # the first one warms up
    result = {
        "what": f"trl 1.12.0, value model {args.value}",
        "config": vars(args),
        "median": {key: round(statistics.median(one[key] for one in used), 3) for key in used[0]},
        "steps": [{key: round(value, 3) for key, value in one.items()} for one in laps.steps],
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    if args.device == "cuda":
        result["peak_gpu_gb"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
