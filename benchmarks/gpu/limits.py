"""Find what the hardware could do at most: by its data sheet, and measured here.

    python -m benchmarks.gpu.limits --device cuda

prints one JSON line: the rates of a large matrix product and of a copy, and the time to launch a kernel.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.workload import Shape


@dataclass(frozen=True)
class Peak:
    """The limits of one GPU: dense matrix products with float32 sums, and memory."""

    name: str  # as torch reports it, a part of it
    bfloat16_tflops: float
    float32_tflops: float  # outside the tensor cores: deterministic float32 uses no TF32 here
    memory_gb_s: float
    source: str


# The first whose name is part of the device's is taken. Figures with sparsity are twice as high and not meant here.
PEAKS = (
    Peak("H200", 989.5, 67.0, 4800.0, "NVIDIA H200 Tensor Core GPU datasheet, SXM"),
    Peak("H100 PCIe", 756.0, 51.0, 2000.0, "NVIDIA H100 Tensor Core GPU datasheet, PCIe"),
    Peak("H100", 989.5, 67.0, 3350.0, "NVIDIA H100 Tensor Core GPU datasheet, SXM"),
    Peak("A100-PCIE-40GB", 312.0, 19.5, 1555.0, "NVIDIA A100 Tensor Core GPU datasheet, 40 GB PCIe"),
    Peak("A100-SXM4-40GB", 312.0, 19.5, 1555.0, "NVIDIA A100 Tensor Core GPU datasheet, 40 GB SXM"),
    Peak("A100 80GB PCIe", 312.0, 19.5, 1935.0, "NVIDIA A100 Tensor Core GPU datasheet, 80 GB PCIe"),
    Peak("A100", 312.0, 19.5, 2039.0, "NVIDIA A100 Tensor Core GPU datasheet, 80 GB SXM"),
)


def peak_of(device: str) -> Peak | None:
    """Look up the data sheet's figures for a device name; None for one that is not in the table."""
    return next((peak for peak in PEAKS if peak.name.lower() in device.lower()), None)


@dataclass(frozen=True)
class Work:
    """The least that the parts of a step must do."""

    rollout_bytes: float  # weights once a decoded token, and the keys and values so far
    rollout_flops: float
    scoring_flops: float
    update_flops: float


def work_of(shape: Shape, *, width: int, rescored: bool) -> Work:
    """Count 2 FLOP for each weight and token, and attention's products. LoRA's backward pass makes no weight
    gradients, so it costs one forward. `width`: bytes of a number. `rescored`: rollouts end with one more forward."""
    body, head = 12 * shape.layers * shape.hidden**2, shape.vocab * shape.hidden
    length, responses = shape.prompt + shape.response, shape.batch * shape.response
    attention = 2 * shape.layers * shape.hidden * length**2 * shape.batch  # causal: half of 4 L D T^2
    once = 2.0 * (body * shape.batch * length + head * responses) + attention
    seen = sum(shape.prompt + t for t in range(1, shape.response + 1)) * shape.batch
    cache = 2 * shape.layers * shape.hidden * seen
    return Work(
        rollout_bytes=float(width * ((body + head) * shape.response + cache)),
        rollout_flops=once * (2 if rescored else 1),
        scoring_flops=once,
        update_flops=2 * shape.epochs * once,
    )


def best(call: Callable[[], object], now: Callable[[], float], times: int) -> float:
    """Time the fastest of several calls, after two that warm up."""
    found = []
    for number in range(times + 2):
        start = now()
        call()
        if number > 1:
            found.append(now() - start)
    return min(found)


def measured(device: str, *, size: int, megabytes: int, launches: int) -> dict[str, float | str]:
    """Measure this device: products of two random size x size matrices, a copy (bytes read and written), launches."""
    import torch

    from benchmarks.workload import clock_of

    now = clock_of(device)
    rates: dict[str, float | str] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), now, 10)  # type: ignore[misc] # mypy cannot infer a lambda with defaults
        rates[f"{name}_tflops"] = 2 * size**3 / seconds / 1e12
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates["memory_gb_s"] = 2 * len(source) / best(lambda: target.copy_(source), now, 10) / 1e9
    small = torch.zeros(8, device=device)

    def launch() -> None:
        for _ in range(launches):
            small.add_(1.0)

    rates["launch_us"] = best(launch, now, 3) / launches * 1e6
    rates["torch"], rates["cuda"] = torch.__version__, str(torch.version.cuda)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--launches", type=int, default=2000)
    given = parser.parse_args()
    start = time.perf_counter()
    found = measured(given.device, size=given.size, megabytes=given.megabytes, launches=given.launches)
    print(json.dumps({**found, "took_s": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
