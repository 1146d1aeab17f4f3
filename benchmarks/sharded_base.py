"""Try FSDP2 under a LoRA adapter: the frozen base's weights cut over processes, the adapter whole in each.

    python -m benchmarks.sharded_base --processes 2 [--architecture gpt2 llama] [--layers 4] [--hidden 256]

What a model asks for that does not fit one card: `torch.distributed.fsdp.fully_shard` (FSDP2) on each block and on what
is left, adapters left out, so that they stay whole, are saved by any process, and their gradients can go through the
same tree of sums as elsewhere. Random weights; gloo on this machine's processors. Printed for each architecture, and
returned: how far logprobs and the adapter's gradients are from those of the whole model, and the bytes of weights that
a process holds. The pipeline does not use it: docs/processes.md says why.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf.core import processes
from rlhf.core.launcher import Shared, launch, meet
from rlhf.core.processes import Processes

RESULT = "RLHF_SHARDED_BASE"
ROWS, TOKENS, VOCAB = 4, 24, 512
ARCHITECTURES = ("gpt2", "llama")
Found = dict[str, float]


def make_model(architecture: str, layers: int, hidden: int) -> nn.Module:
    """Make a causal language model with random weights under a LoRA adapter whose update is not zero."""
    from peft import get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    from rlhf.models.policy.lora import lora_config

    torch.manual_seed(0)
    if architecture == "gpt2":
        base: Any = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCAB,
                n_positions=TOKENS,
                n_embd=hidden,
                n_layer=layers,
                n_head=4,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
    else:
        sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers}
        base = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2, **sizes))
    config = lora_config(base, rank=8, alpha=16.0, dropout=0.0, targets="auto", base="random")
    config.inference_mode = False
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.02)
    return model.eval()


def shard(model: nn.Module) -> None:
    """Cut the frozen weights over the processes that have met; those of the adapter stay whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (processes.current().size,))
    adapter = {weight for weight in model.parameters() if weight.requires_grad}
    blocks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    for block in blocks[0]:
        fully_shard(block, mesh=mesh, ignored_params=adapter)
    fully_shard(model, mesh=mesh, ignored_params=adapter)


def held(model: nn.Module) -> int:
    """Count the bytes of weights that this process holds."""
    own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in model.parameters()]
    return sum(weight.numel() * weight.element_size() for weight in own)


def compare(model: nn.Module, here: Processes) -> Found:
    """Shard a copy of the model, and compare it with the whole one on this process's own rows."""
    drawn = torch.Generator().manual_seed(1 + here.rank)
    rows = torch.randint(VOCAB, (ROWS, TOKENS), generator=drawn)
    cut = copy.deepcopy(model)
    whole = held(model)
    shard(cut)
    found: Found = {"held": held(cut), "whole": whole}
    logprobs, gradients = _measure(model, rows)
    own_logprobs, own_gradients = _measure(cut, rows)
    found["logprobs_apart"] = float((own_logprobs - logprobs).abs().max())
    found["logprobs_spread"] = float(logprobs.std())
    apart = [float((own_gradients[name] - gradients[name]).abs().max()) for name in gradients]
    found["gradients_apart"] = max(apart) / max(float(one.abs().max()) for one in gradients.values())
    return found


def _measure(model: nn.Module, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute logprobs of the rows' tokens (B, T - 1), and the adapter's gradients of their sum, by name."""
    logits = model(input_ids=rows).logits[:, :-1]
    logprobs = logits.log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
    logprobs.sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    if missing or not gradients:
        raise ValueError(f"no gradient for {missing or 'any weight'}")
    return logprobs.detach(), {name: grad.detach().clone() for name, grad in gradients.items() if grad is not None}


def main() -> None:
    """Launch the processes, and print what each architecture gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    given = parser.parse_args()
    if RESULT in os.environ:
        here = meet(Shared(processes.launched(), 0, 600.0))
        found = {one: compare(make_model(one, given.layers, given.hidden), here) for one in given.architecture}
        if here.is_main:
            Path(os.environ[RESULT]).write_text(json.dumps(found))
        processes.leave()
        return
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        os.environ[RESULT] = str(result)
        arguments = ["-m", "benchmarks.sharded_base", *sys.argv[1:]]
        if launch(arguments, given.processes, stage="sharded_base", say=lambda line: print(line, file=sys.stderr)):
            sys.exit(1)
        for name, own in json.loads(result.read_text()).items():
            print(
                f"{name}: logprobs at most {own['logprobs_apart']:.1e} apart (they spread by "
                f"{own['logprobs_spread']:.1f}), the adapter's gradients {own['gradients_apart']:.1e} of the largest; "
                f"a process holds {own['held'] / 1e6:.2f} MB of {own['whole'] / 1e6:.2f} MB of weights"
            )


if __name__ == "__main__":
    main()
