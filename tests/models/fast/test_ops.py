"""Hand-written gradients against float64 autograd of the formula spelled out, and against finite differences."""

import math
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlhf.models.fast.gelu import tanh_gelu
from rlhf.models.fast.head import fused_logprobs
from rlhf.models.fast.linear import Linear
from tests.models import helpers


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


def lora(transposed: bool) -> tuple[Linear, dict[str, Tensor]]:
    """A 5 -> 7 layer with a random rank-2 adapter "one" at scale 3, all in float64."""
    base: nn.Module = Conv1D(7, 5) if transposed else nn.Linear(5, 7)
    model = get_peft_model(Holder(base), LoraConfig(r=2, lora_alpha=6, target_modules=["layer"]), adapter_name="one")
    model.double()
    for seed, parameter in enumerate(model.parameters()):
        parameter.data.copy_(random(*parameter.shape, seed=seed + 1))
    layer = model.base_model.model.layer
    weight = layer.base_layer.weight.t() if transposed else layer.base_layer.weight
    known = {
        "w": weight.detach(), "bias": layer.base_layer.bias.detach(),
        "a": layer.lora_A["one"].weight, "b": layer.lora_B["one"].weight,
    }  # fmt: skip
    return Linear(layer), known


@pytest.mark.parametrize("transposed", [False, True])
def test_lora_gradients(transposed: bool) -> None:
    linear, known = lora(transposed)
    x, up = random(4, 5, seed=9).requires_grad_(), random(4, 7, seed=10)
    wanted = (x, known["a"], known["b"])
    expected = x @ known["w"].T + known["bias"] + 3.0 * (x @ known["a"].T) @ known["b"].T
    found = linear(x, "one")
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * up).sum(), wanted), torch.autograd.grad((expected * up).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_without_the_adapter_it_is_the_base() -> None:
    linear, known = lora(transposed=False)
    x = random(4, 5)
    torch.testing.assert_close(linear(x, None), x @ known["w"].T + known["bias"])
    torch.testing.assert_close(linear(x, "other"), x @ known["w"].T + known["bias"])


def test_stale_merged_weights_are_an_error_not_a_wrong_gradient() -> None:
    linear, known = lora(transposed=False)
    output = linear(random(4, 5), "one")
    with torch.no_grad():
        known["b"].add_(1.0)
    linear(random(4, 5), "one")  # merges again, in place
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 20, 64, 65])
def test_large_layers_in_a_decode_loop(rows: int, transposed: bool) -> None:
    """With and without an adapter, and after the adapter's weights have moved."""
    base: nn.Module = Conv1D(2048, 600) if transposed else nn.Linear(600, 2048)
    model = get_peft_model(Holder(base), LoraConfig(r=2, lora_alpha=6, target_modules=["layer"]), adapter_name="one")
    layer = model.base_model.model.layer
    linear, x = Linear(layer), torch.randn(rows, 600, generator=torch.Generator().manual_seed(rows))
    weight = layer.base_layer.weight.double()
    frozen = x.double() @ (weight if transposed else weight.T) + layer.base_layer.bias.double()
    with torch.no_grad():
        for _ in range(3):
            layer.lora_B["one"].weight.add_(0.01 * torch.randn(2048, 2, generator=torch.Generator().manual_seed(1)))
            a, b = layer.lora_A["one"].weight.double(), layer.lora_B["one"].weight.double()
            # 600 additions below 2, which round by up to 1.2e-7 each: 3e-6 if they are independent, 7e-5 if all agree.
            torch.testing.assert_close(linear(x, None), frozen.float(), atol=5e-5, rtol=1e-5)
            tuned = frozen + 3.0 * (x.double() @ a.T) @ b.T
            torch.testing.assert_close(linear(x, "one"), tuned.float(), atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "elements"), [(5, 7), (16, 64), (1024, 2**22)])
def test_head(bias: bool, rows: int, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks of tokens and vocabulary."""
    monkeypatch.setattr("rlhf.models.fast.head._CHUNK_ROWS", rows)
    monkeypatch.setattr("rlhf.models.fast.head._CHUNK_ELEMENTS", elements)
    hidden, weight = random(37, 5).requires_grad_(), random(11, 5, seed=1)
    offset = random(11, seed=2) if bias else None
    ids = torch.randint(0, 11, (37,), generator=torch.Generator().manual_seed(3))
    logprobs, entropy = fused_logprobs(hidden, weight, offset, ids, temperature=0.7)
    logits = hidden @ weight.T + (0.0 if offset is None else offset)
    for i in range(37):
        row = logits[i].tolist()
        assert logprobs[i].item() == pytest.approx(helpers.log_softmax(row, 0.7)[ids[i]], abs=1e-9)
        assert entropy[i].item() == pytest.approx(helpers.entropy(row, 0.7), abs=1e-9)
    assert not entropy.requires_grad
    up = random(37, seed=4)
    (found,) = torch.autograd.grad((logprobs * up).sum(), hidden)
    (expected,) = torch.autograd.grad((logits.div(0.7).log_softmax(-1)[range(37), ids] * up).sum(), hidden)
    torch.testing.assert_close(found, expected)


def test_head_by_finite_differences() -> None:
    weight, ids = random(9, 4, seed=1), torch.tensor([3, 0, 8])
    assert torch.autograd.gradcheck(
        lambda h: fused_logprobs(h, weight, None, ids, temperature=1.3)[0], random(3, 4).requires_grad_()
    )


def test_head_without_tokens() -> None:
    logprobs, entropy = fused_logprobs(random(0, 4), random(9, 4), None, torch.zeros(0).long(), temperature=1.0)
    assert logprobs.shape == entropy.shape == (0,)


@pytest.mark.parametrize("block", [4, 2**17])
def test_gelu(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.models.fast.gelu._BLOCK", block)
    x = torch.cat((random(3, 7).flatten() * 3, torch.tensor([0.0, -40.0, 40.0], dtype=torch.float64)))
    x, up = x.requires_grad_(), random(24, seed=1)
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    expected = 0.5 * x * (1 + torch.tanh(u))
    found = tanh_gelu(x)
    torch.testing.assert_close(found, expected)
    for one, other in zip(torch.autograd.grad(found, x, up), torch.autograd.grad(expected, x, up), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(tanh_gelu(x.detach().float()), expected.detach().float(), atol=1e-6, rtol=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_the_allocator_keeps_memory() -> None:
    """A 64 MB block touched again and again costs page faults only at first.

    The heap may grow for a few rounds until a freed block fits the next one with its alignment; how many depends on
    where the system put it (up to 11 were seen), so the count starts when it has had time to settle.
    """
    script = """
import resource, torch
from rlhf.models.fast.allocator import keep_memory
assert keep_memory()
def touch():
    torch.full((2**24,), 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30): first = touch()
for _ in range(10): last = touch()
print(last - first)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10 * 2**24 * 4 // 4096 // 2
