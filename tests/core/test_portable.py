"""The instruction set of a portable run: set before torch is there, refused in a line where that is too late."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.core import portable

HERE = portable.unsupported()
needs_avx2 = pytest.mark.skipif(HERE is not None, reason=f"no portable run here: {HERE}")

CHECK = """
import json, os, sys
from rlhf.core.portable import VARIABLES, applied, apply
late = {late}
if late:
    import torch
note = apply()
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D
from rlhf.core.products import linear, product, through_onednn

torch.manual_seed(0)
x, weight, bias = torch.randn(2, 5, 24), torch.randn(16, 24), torch.randn(16)
exact = x.double() @ weight.double().t() + bias.double()
gap = float((product(x, weight, bias).double() - exact).abs().max())
inputs = [one.clone().requires_grad_() for one in (x, weight, bias)]
plain = [one.double().clone().requires_grad_() for one in (x, weight, bias)]
(linear(*inputs) ** 2).sum().backward()
((plain[0] @ plain[1].t() + plain[2]) ** 2).sum().backward()
slopes = max(float((a.grad.double() - b.grad).abs().max() / b.grad.abs().max()) for a, b in zip(inputs, plain))
model = nn.Sequential(nn.Linear(24, 8), Conv1D(6, 8))
before = model(x)
through_onednn(model)
after = model(x)
layers = float((before - after).abs().max())
print(json.dumps({{
    "note": note, "applied": applied(), "capability": torch.backends.cpu.get_cpu_capability(), "gap": gap,
    "slopes": slopes, "layers": layers, "patched": "forward" in vars(model[0]), "names": sorted(model.state_dict()),
}}))
"""


def told(*, late: bool) -> dict[str, object]:
    code = CHECK.format(late=late)
    root = Path(__file__).resolve().parents[2]
    env = {name: value for name, value in os.environ.items() if name not in portable.VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, env=env)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_avx2
def test_products_and_gradients_of_a_portable_process_are_right() -> None:
    found = told(late=False)
    assert found["note"] is None
    assert found["applied"]
    assert found["capability"] == "AVX2"
    assert found["patched"]
    assert found["names"] == ["0.bias", "0.weight", "1.bias", "1.weight"]
    for name in ("gap", "slopes", "layers"):  # sums of 24 float32 products of size about 1
        assert float(str(found[name])) < 1e-4, name


@needs_avx2
def test_too_late_is_said_and_changes_nothing() -> None:
    found = told(late=True)
    assert "torch was imported before" in str(found["note"])
    assert not found["applied"]
    assert not found["patched"]
    assert float(str(found["gap"])) < 1e-4


@pytest.mark.parametrize(
    ("machine", "system", "flags", "why"),
    [
        ("arm64", "darwin", set(), "arm64"),
        ("x86_64", "darwin", {"avx2", "fma"}, "darwin"),
        ("x86_64", "linux", {"sse2"}, "avx2, fma"),
    ],
)
def test_other_machines_run_natively_and_say_so(
    machine: str, system: str, flags: set[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable.platform, "machine", lambda: machine)
    monkeypatch.setattr(portable.sys, "platform", system)
    monkeypatch.setattr(portable, "_flags", lambda: flags)
    note = portable.apply()
    assert note is not None
    assert why in note
    assert "natively" in note
