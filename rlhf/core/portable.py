"""Fix the instruction set that the numerical libraries compute with, so that processors give the same bytes.

ATen, oneDNN, MKL, OpenBLAS and NumPy pick their kernels by the processor they find, and kernels differ in the last
digits: one sampled token differs, and from there the whole run. Pinned to AVX2 and to MKL's compatible code path they
do not: docs/portable.md says what was tried, operation by operation.

The libraries read these variables when they are loaded, so `apply` comes before the first import of torch or numpy.
"""

import os
import platform
import sys
from pathlib import Path

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",  # the one path that MKL takes on every maker's processors
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's products
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}
_NEEDED = ("avx2", "fma")  # of the processor


def unsupported() -> str | None:
    """Say why the setting cannot hold on this machine, or None where it can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"the processor is {platform.machine()}, not x86-64"
    if sys.platform != "linux":
        return f"the system is {sys.platform}, not Linux"
    missing = [flag for flag in _NEEDED if flag not in _flags()]
    return f"the processor lacks {', '.join(missing)}" if missing else None


def apply() -> str | None:
    """Set the variables for this process and its children; return a line to show where that is not possible.

    Nothing is set where the machine cannot follow (`unsupported`): the run is then native, and its bytes are its own.
    Where torch or numpy is there already with other settings, that is said and nothing is changed.
    """
    why = unsupported()
    if why is not None:
        return f"runtime.portable: {why}; this run computes natively, and its bytes are its own"
    if applied():
        return None
    if "torch" in sys.modules:
        return (
            "runtime.portable: torch was imported before the instruction set was fixed; "
            "this process computes natively, and its bytes are its own"
        )
    os.environ.update(VARIABLES)
    os.environ["NPY_DISABLE_CPU_FEATURES"] = " ".join(_disabled())
    if "numpy" in sys.modules and _disabled():
        return "runtime.portable: numpy was imported first and keeps its wider instructions; last digits may differ"
    return None


def applied() -> bool:
    """Tell whether the variables stand in this process's environment, which its libraries have read or will read."""
    names = [name for name in VARIABLES if name != "NPY_DISABLE_CPU_FEATURES"]
    return all(os.environ.get(name) == VARIABLES[name] for name in names)


def _disabled() -> list[str]:
    """NumPy's names of what is switched off: only what this processor has, since NumPy warns of the rest."""
    return VARIABLES["NPY_DISABLE_CPU_FEATURES"].split() if "avx512f" in _flags() else []


def _flags() -> set[str]:
    """The processor's features as Linux lists them; empty where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
