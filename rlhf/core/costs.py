"""Measure what a stage's process cost: time, memory and, where the machine lets it be read, energy.

These are facts of one machine on one day, so they stay out of metrics and of dvc.lock: they are written to the
git-ignored `.costs/<stage>.json`, and `make costs` gathers them into a file that git tracks.

How each is measured: `wall_s` on a monotonic clock from the command's first line to its end; `cpu_s` by the kernel's
account of this process and the children it has waited for; `peak_memory_mb` is the largest resident set (10^6 bytes) of
this process since it was started, or of a child that it has waited for: of the process itself `VmHWM` of
/proc/self/status, since `ru_maxrss` is handed on over exec from whatever larger program started it; `ru_maxrss` where
there is no /proc, and of the children, of whom the system keeps nothing else; `gpu_peak_memory_mb` is the most that
torch's allocator held at once; `cpu_energy_j` is the difference of the processor packages' RAPL counters, whatever else
ran on them included; `gpu_energy_j` the difference of NVML's counters of the GPUs that the process used, idle power
included. A cost that cannot be read is None, never an estimate.

Where several processes share a stage's work, `cpu_s` and `peak_memory_mb` are the sums over them.
"""

import contextlib
import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.nvml import energy_mj
from rlhf.core.params import dug
from rlhf.core.processes import Processes, cores

POWERCAP = Path("/sys/class/powercap")
MEGA = 1e6


def packages(powercap: Path = POWERCAP) -> dict[str, tuple[int, int]]:
    """Read RAPL's (counter, wrap-around) in microjoules for each processor package; empty where it cannot be read."""
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):  # AMD's too; subzones (cores, memory) are intel-rapl:0:1
        if zone.name.count(":") == 1:
            with contextlib.suppress(OSError, ValueError):
                found[zone.name] = (
                    int((zone / "energy_uj").read_text()),
                    int((zone / "max_energy_range_uj").read_text()),
                )
    return found


def joules(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float | None:
    """Compute the energy between two readings; a counter that fell has wrapped once. None unless both name the same
    packages."""
    if not before or set(before) != set(after):
        return None
    return sum((after[name][0] - start) % wrap for name, (start, wrap) in before.items()) / MEGA


class Meter:
    """A meter that runs from its making; `read` gives the costs since."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._packages, self._gpus = packages(), energy_mj()

    def read(self) -> dict[str, float | None]:
        """Read the costs so far, named as in the module's text."""
        wall = time.perf_counter() - self._started
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB on Linux
        peak = high_water()
        memory, used = gpu_use()
        after = energy_mj() if used else {}
        same = bool(used) and used <= set(self._gpus) and used <= set(after)
        return {
            "wall_s": wall,
            "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            "peak_memory_mb": max(own.ru_maxrss * unit if peak is None else peak, children.ru_maxrss * unit) / MEGA,
            "gpu_peak_memory_mb": memory,
            "cpu_energy_j": joules(self._packages, packages()),
            "gpu_energy_j": sum(after[gpu] - self._gpus[gpu] for gpu in used) / 1e3 if same else None,
        }


def of_all(own: Mapping[str, float | None], processes: Processes) -> dict[str, float | None]:
    """Add up the processor time and memory of the processes that shared a run's work; the rest is the main one's."""
    added = [name for name in ("cpu_s", "peak_memory_mb") if own[name] is not None]
    rows = processes.numbers(*(own[name] or 0.0 for name in added))
    return {**own, **{name: sum(row[at] for row in rows) for at, name in enumerate(added)}}


def high_water(status: Path = Path("/proc/self/status")) -> int | None:
    """Read the largest resident set of this process since exec, in bytes, as Linux tells it; None elsewhere."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def gpu_use() -> tuple[float | None, set[str]]:
    """Read the most GPU memory that torch held, in 10^6 bytes, and the UUIDs of its GPUs; None if this process used
    none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None, set()
    indices = [index for index in range(torch.cuda.device_count()) if torch.cuda.max_memory_allocated(index) > 0]
    peak = sum(torch.cuda.max_memory_allocated(index) for index in indices) / MEGA
    return peak, {f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in indices}


def machine() -> dict[str, object]:
    """Describe the processor, the cores this process may use, memory, and the GPUs that torch sees."""
    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": gpus,
    }


def _processor(info: Path = Path("/proc/cpuinfo")) -> str:
    with contextlib.suppress(OSError):
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def settings_hash(resolved: Mapping[str, Any], names: Iterable[str]) -> str:
    """Hash the named parts of the resolved parameters (SHA-256), to tell whether a cost belongs to a run with these
    settings."""
    part = {name: dug(resolved, name) for name in sorted(names)}
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
