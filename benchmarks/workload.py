"""Time a PPO step: random weights in any GPT-2 shape, prompts and responses of given lengths.

    python -m benchmarks.workload --layers 12 --hidden 768 --heads 12 --vocab 50257 --engine fast

prints one JSON line: seconds of each step, split into rollout, scoring and update, and the peak memory. It is what
`benchmarks.peer` runs beside the peer, as a process of its own.
"""

import argparse
import contextlib
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from unittest import mock

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf.core.launcher import Shared, launch, meet
from rlhf.core.processes import ALONE, hide, launched, leave
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.models.fast.engine import Engine, load_backbone
from rlhf.models.policy.lora import lora_config, write_adapter
from rlhf.models.reward.reward_model import RewardModel
from rlhf.params import resolve
from rlhf.ppo import step as steps
from rlhf.ppo.actors import Actors
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream
from rlhf.ppo.reward_sources import RewardModelSource
from rlhf.ppo.state import Progress
from rlhf.ppo.types import Prompt
from rlhf.ppo.value_head import ValueHead

ROOT = Path(__file__).resolve().parents[1]
EOS = "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    """The sizes of the model, and of what it is given."""

    layers: int
    hidden: int
    heads: int
    vocab: int
    batch: int
    prompt: int
    response: int
    shortest: int  # responses are from here to `response` tokens long, uniformly; `response` for equal lengths
    epochs: int
    microbatch: int


DType = Literal["float32", "bfloat16"]
# The self-checks' limits: what params.yaml recommends for each precision.
TOLERANCES = {
    "float32": {"ratio_tolerance": 1e-3, "sampler_tolerance": 1e-2},
    "bfloat16": {"ratio_tolerance": 0.05, "sampler_tolerance": 1.0},
}
GPT2_SMALL = Shape(12, 768, 12, 50257, 16, 64, 64, 64, 4, 16)
TINY = Shape(4, 128, 4, 1024, 64, 32, 32, 32, 4, 64)


class Scheduled(steps.Setup):
    """A setup whose responses have set lengths: EOS is the last token, which a uniform number of exactly 1 draws."""

    shape: Shape

    def uniforms(self, iteration: int) -> Tensor:
        shape = self.shape
        drawn = torch.rand(
            shape.batch, shape.response, generator=self.runtime.generator("benchmark", "sample", iteration)
        )
        drawn = drawn.clamp_max(0.999)
        if shape.shortest < shape.response:
            drawn.scatter_(1, lengths(shape, iteration).unsqueeze(1) - 1, 1.0)
        return drawn


def lengths(shape: Shape, iteration: int) -> Tensor:
    """Spread the response lengths of one iteration evenly over the range, in a random order."""
    even = torch.linspace(shape.shortest, shape.response, shape.batch).round().long()
    return even[torch.randperm(shape.batch, generator=torch.Generator().manual_seed(iteration))]


def tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the words t0, t1, ..., and EOS last."""
    words = {f"t{i}": i for i in range(vocab - 1)} | {EOS: vocab - 1}
    made = Tokenizer(models.WordLevel(words, unk_token=EOS))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=EOS, pad_token=EOS)


def make_model(shape: Shape, folder: Path) -> tuple[Path, Path]:
    """Write a random GPT-2 and an untouched LoRA (rank 8 on c_attn and c_proj) over it, as folders."""
    torch.manual_seed(0)
    words = tokenizer(shape.vocab)
    config = GPT2Config(
        n_layer=shape.layers, n_embd=shape.hidden, n_head=shape.heads, vocab_size=shape.vocab,
        bos_token_id=shape.vocab - 1, eos_token_id=shape.vocab - 1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    base, adapter = folder / "base", folder / "sft"
    model.save_pretrained(base)
    words.save_pretrained(base)
    from peft import get_peft_model

    lora = lora_config(model, rank=8, alpha=16.0, dropout=0.0, targets="auto", base=str(base))
    write_adapter(cast(Any, get_peft_model(model, lora)), "default", adapter)
    return base, adapter


def make_setup(
    shape: Shape,
    engine: Engine,
    folder: Path,
    threads: int,
    *,
    device: str = "cpu",
    dtype: DType = "float32",
    shards: int = 1,
) -> Scheduled:
    """Set up a step with the project's own parameters, and the shape's numbers in their places."""
    params = resolve(ROOT / "params.yaml", ROOT / "profiles")
    ppo = PPOParams.model_validate(
        params.ppo.model_dump()
        | {
            "batch": shape.batch, "minibatch": shape.batch, "microbatch": shape.microbatch, "epochs": shape.epochs,
            "response_tokens": shape.response, "lr": 1e-5, "kl_limit": 0.0, "score_jump": 0.0, "entropy_floor": 0.0,
            "max_prompt_tokens": 0, "approx_kl_stop": 0.0, "shards": shards, **TOLERANCES[dtype],
        }
    )  # fmt: skip
    runtime = Runtime.start(
        RuntimeParams.model_validate(
            params.runtime.model_dump() | {"device": device, "dtype": dtype, "threads": threads}
        ),
        0,
    )
    base, adapter = make_model(shape, folder)
    backbone = load_backbone(
        base, {"sft": adapter, "policy": adapter}, engine=engine, trainable=("policy",), dtype=runtime.dtype,
        device=runtime.device,
    )  # fmt: skip
    reward = RewardModel(
        backbone.hidden_size, pooling="mean", pool_over="sequence", backbone_adapter=str(adapter)
    ).requires_grad_(False)
    torch.nn.init.normal_(reward.head.weight, generator=torch.Generator().manual_seed(0))
    value_head = ValueHead(backbone.hidden_size).to(runtime.device)
    actors = Actors(backbone, value_head, RewardModelSource(reward.to(runtime.device)))
    learner = Learner(actors, lr=ppo.lr, value_lr=ppo.value_lr, adam_eps=ppo.adam_eps, max_grad_norm=ppo.max_grad_norm)
    setup = Scheduled(actors, learner, PromptStream(prompts(shape, 4 * shape.batch), 0), ppo, runtime)
    object.__setattr__(setup, "shape", shape)
    return setup


def prompts(shape: Shape, count: int) -> list[Prompt]:
    """Draw random prompts, all of the same length."""
    ids = torch.randint(0, shape.vocab - 1, (count, shape.prompt), generator=torch.Generator().manual_seed(0))
    return [Prompt(f"p{i}", " ".join(f"t{j}" for j in row), tuple(row)) for i, row in enumerate(ids.tolist())]


@dataclass
class Clock:
    """A clock that adds up seconds of the parts of a step, by name."""

    now: Any = time.perf_counter
    spent: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, function: Any) -> Any:
        """Wrap a function so that its time is added to `name`."""

        def call(*args: Any, **named: Any) -> Any:
            start = self.now()
            result = function(*args, **named)
            self.spent[name] = self.spent.get(name, 0.0) + self.now() - start
            return result

        return call


@contextlib.contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Read the clock around the three parts of `step`; nothing else changes."""
    with contextlib.ExitStack() as stack:
        for name, part in (("respond", "rollout"), ("score", "scoring"), ("update", "update")):
            stack.enter_context(mock.patch.object(steps, name, clock.timed(part, getattr(steps, name))))
        yield


def clock_of(device: str) -> Callable[[], float]:
    """Give a clock that waits for a GPU's work: a call only starts a kernel."""

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return now


def peak_gb(device: str) -> dict[str, float]:
    """Read the most memory in use at once: of the process, and of the GPU as torch's allocator reserved it."""
    found = {"peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}
    if device == "cuda":
        found["peak_gpu_gb"] = round(torch.cuda.max_memory_reserved() / 2**30, 2)
    return found


def run(setup: Scheduled, iterations: int, now: Any = time.perf_counter) -> list[dict[str, float]]:
    """Measure the seconds of each step and of its parts."""
    found = []
    for iteration in range(iterations):
        clock = Clock(now)
        with watched(clock):
            start = now()
            steps.step(setup, Progress(kl_coef=0.05, iteration=iteration))
            found.append({**clock.spent, "total": now() - start})
    return found


def processor() -> str:
    """Read the processor's name, where the system tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Time steps of one engine and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(GPT2_SMALL).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--engine", choices=["plain", "fast"], default="fast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(TOLERANCES), default="float32")
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for a machine that is not quiet")
    parser.add_argument("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--processes", type=int, default=1, help="share each step among so many, a shard for each")
    given = vars(parser.parse_args())
    place = launched()
    if given["processes"] > 1 and place is None:
        again = ["-m", "benchmarks.workload", *sys.argv[1:]]
        raise SystemExit(launch(again, given["processes"], stage="step", say=say))
    hide()  # accelerate would join by itself
    shape = Shape(**{name: given[name] for name in vars(GPT2_SMALL)})
    if given["engine"] == "fast" and given["keep_memory"]:
        from rlhf.models.fast.allocator import keep_memory

        keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        where = {"device": given["device"], "dtype": given["dtype"]}
        setup = make_setup(shape, given["engine"], Path(folder), given["threads"], shards=given["processes"], **where)
        here = meet(Shared(place, 0, 600.0)) if place else ALONE  # from here on the first one alone can write
        found = run(setup, given["steps"], time.process_time if given["cpu_time"] else clock_of(given["device"]))
    used = found[1:] or found  # the first one warms up
    result = {
        "what": f"rlhf {given['engine']}",
        "config": given,
        "median": {key: round(statistics.median(one[key] for one in used), 3) for key in used[0]},
        "steps": [{key: round(value, 3) for key, value in one.items()} for one in found],
        **peak_gb(given["device"]),
    }
    peak = here.numbers(result["peak_rss_gb"])
    result["peak_rss_gb"] = round(sum(own for (own,) in peak), 2)
    if here.is_main:
        print(json.dumps(result))
    leave()


def say(line: str) -> None:
    """Write a line of the launcher."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
