"""What a stage cost: counters that wrap, machines that tell nothing, work of known size."""

import ctypes
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf.core import costs, nvml
from rlhf.core.costs import Meter, gpu_use, high_water, joules, machine, packages, settings_hash


def zone(powercap: Path, name: str, energy: str, wraps: str = "1000000") -> None:
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(energy)
    (folder / "max_energy_range_uj").write_text(wraps)


def test_packages_are_read_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "900000\n")
    zone(tmp_path, "intel-rapl:0:0", "5")
    zone(tmp_path, "intel-rapl:1", "x")
    assert packages(tmp_path) == {"intel-rapl:0": (900000, 1000000)}
    assert packages(tmp_path / "none") == {}


def test_energy_counts_over_the_wrap() -> None:
    before = {"a": (900_000, 1_000_000), "b": (100_000, 1_000_000)}
    after = {"a": (150_000, 1_000_000), "b": (400_000, 1_000_000)}
    assert joules(before, after) == pytest.approx(0.25 + 0.3)
    assert joules({}, {}) is None
    assert joules(before, {"a": (1, 2)}) is None


def test_a_meter_counts_the_clock_and_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "gpu_use", lambda: (None, set()))
    meter = Meter()
    time.sleep(0.05)
    found = meter.read()
    assert 0.05 <= (found["wall_s"] or 0) < 3600  # seconds, whatever else the machine does
    assert found["gpu_peak_memory_mb"] is found["gpu_energy_j"] is None


MEASURED = (
    "from rlhf.core.costs import Meter; import json, time; m = Meter(); held = b'x' * {size}\n"
    "end = time.process_time() + {busy}\nwhile time.process_time() < end: pass\nprint(json.dumps(m.read()))"
)


def measured(*command: str) -> dict[str, float]:
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def test_work_and_memory_of_known_size_are_seen() -> None:
    found = measured(sys.executable, "-c", MEASURED.format(size=300_000_000, busy=0.3))
    assert 0.3 <= found["cpu_s"] < 30
    assert 300 <= found["peak_memory_mb"] < 500


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="ru_maxrss is all there is")
def test_the_memory_of_what_came_before_exec_is_not_ours() -> None:
    """Linux hands `ru_maxrss` of a process on to what it becomes: here 600 MB to a Python that takes 20."""
    small = MEASURED.format(size=1000, busy=0)
    large = "import os, sys; held = b'x' * 600_000_000; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    assert measured(sys.executable, "-c", large, small)["peak_memory_mb"] < 200


def test_the_high_water_mark_is_read_or_left_to_others(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t    123 kB\nVmRSS:\t 100 kB\n")
    assert high_water(status) == 123 * 1024
    status.write_text("Name:\tpython\nVmHWM:\n")
    assert high_water(status) is None
    assert high_water(tmp_path / "none") is None


def test_without_proc_the_system_s_own_account_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "high_water", lambda: None)
    assert 20 < (Meter().read()["peak_memory_mb"] or 0) < 100_000


class FakeTorch:
    """Two GPUs, of which the second is used."""

    class cuda:  # noqa: N801
        is_available = staticmethod(lambda: True)
        is_initialized = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        max_memory_allocated = staticmethod(lambda index: index * 7_000_000)
        get_device_properties = staticmethod(lambda index: SimpleNamespace(uuid=f"u{index}"))


def test_energy_is_that_of_the_gpus_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch)
    assert gpu_use() == (7.0, {"GPU-u1"})
    readings = iter([{"GPU-u0": 10, "GPU-u1": 1000}, {"GPU-u0": 90_000, "GPU-u1": 4500}])
    monkeypatch.setattr(costs, "energy_mj", lambda: next(readings))
    assert Meter().read()["gpu_energy_j"] == 3.5


class FakeDriver:
    """A driver with two GPUs; the second has no counter."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: object) -> int:  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, device: object) -> int:  # noqa: N802
        ctypes.cast(device, ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1
        return 0

    def nvmlDeviceGetUUID(self, device: ctypes.c_void_p, uuid: ctypes.Array[ctypes.c_char], size: object) -> int:  # noqa: N802
        uuid.value = b"GPU-%d" % (device.value or 0)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: ctypes.c_void_p, energy: object) -> int:  # noqa: N802
        ctypes.cast(energy, ctypes.POINTER(ctypes.c_ulonglong))[0] = 12345678901234
        return 0 if device.value == 1 else 3


def test_the_driver_is_asked_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    assert nvml.energy_mj() == {"GPU-1": 12345678901234}


def test_no_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", "libnothing-of-the-kind.so")
    assert nvml.energy_mj() == {}


def test_settings_are_told_apart_by_the_parts_that_count() -> None:
    resolved = {"ppo": {"lr": 0.1}, "sft": {"lr": 0.2}}
    assert settings_hash(resolved, ["ppo"]) == settings_hash({**resolved, "sft": 0}, ["ppo"])
    assert settings_hash(resolved, ["ppo"]) != settings_hash({"ppo": {"lr": 0.2}}, ["ppo"])


def test_the_machine_says_what_it_is() -> None:
    found = machine()
    assert found["processor"]
    assert isinstance(found["cores"], int)
    assert found["cores"] >= 1
