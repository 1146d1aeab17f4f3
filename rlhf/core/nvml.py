"""Read the energy counters of NVIDIA GPUs, through the driver's own library where there is one."""

import contextlib
import ctypes
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_UUID_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_SUCCESS = 0


def energy_mj() -> dict[str, int]:
    """Read the millijoules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption, Volta and newer) by GPU's
    UUID.

    Empty without a driver or a GPU; a GPU without the counter is left out.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(LIBRARY)
        if library.nvmlInit_v2() == _SUCCESS:
            try:
                return _read(library)
            finally:
                library.nvmlShutdown()
    return {}


def _read(library: Any) -> dict[str, int]:
    count, found = ctypes.c_uint(), dict[str, int]()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        device, energy = ctypes.c_void_p(), ctypes.c_ulonglong()
        uuid = ctypes.create_string_buffer(_UUID_BYTES)
        answers = (
            library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)),
            library.nvmlDeviceGetUUID(device, uuid, ctypes.c_uint(_UUID_BYTES)),
            library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(energy)),
        )
        if all(answer == _SUCCESS for answer in answers):
            found[uuid.value.decode()] = energy.value
    return found
