"""Keep the C allocator from giving memory back to the system after every large tensor.

glibc serves large blocks by fresh mappings and returns them when freed, so that each new activation is paid for again
with page faults. Both thresholds are needed: setting either one alone switches off glibc's own adapting of the other.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Make this process keep freed memory for reuse; return False where the C library has no such setting.

    The setting lasts as long as the process, so a program calls this at its start, never a library on import.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _NEVER)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
