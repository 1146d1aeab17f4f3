"""Name what the digits of a result hang on beside code, parameters, data and library versions.

Facts of one machine and one process: they stand in .costs/ beside what the stage cost (docs/adr/0013), never in an
output, or two machines that compute the same bytes would differ in what they say about themselves.
"""

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.core.portable import VARIABLES, applied

WIDTHS = ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")  # kernels are picked by these


def numerics() -> dict[str, object]:
    """Describe this process: what is not loaded or cannot be read is None, never a guess.

    `instruction_set` is what torch computes with, `processor_has` what it could; `fixed` are the variables of
    `runtime.portable` as they stand; `blas` and `numpy_blas` name the libraries of matrix products.
    """
    return {
        "portable": applied(),
        "fixed": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "processor_has": _processor_has(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        **_torch(),
        **_numpy(),
    }


def _torch() -> dict[str, object]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return {"instruction_set": None, "threads": None, "blas": None}
    return {
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "blas": ", ".join(_products(torch.__config__.show())) or None,
    }


def _products(built_with: str) -> Iterator[str]:
    """Pick the libraries of products, with their versions, from torch's description of its build."""
    for name, pattern in (
        ("MKL", r"Math Kernel Library Version ([\w.]+)"),
        ("oneDNN", r"MKL-DNN v([\w.]+)"),
        ("OpenBLAS", r"OpenBLAS ([\d.]+)"),
    ):
        if found := re.search(pattern, built_with):
            yield f"{name} {found[1]}"


def _numpy() -> dict[str, object]:
    numpy: Any = sys.modules.get("numpy")
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        blas = numpy.__config__.CONFIG["Build Dependencies"]["blas"]
        return {"numpy_blas": f"{blas['name']} {blas['version']}"}
    return {"numpy_blas": None}


def _processor_has(info: Path = Path("/proc/cpuinfo")) -> list[str] | None:
    """List which of WIDTHS the processor offers, as Linux tells it; None elsewhere."""
    with contextlib.suppress(OSError):
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                found = set(line.partition(":")[2].split())
                return [name for name in WIDTHS if name in found]
    return None
