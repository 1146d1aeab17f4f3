"""Speed, and what needs a GPU. Timed natively, as the peers are; BENCH_PORTABLE=1 fixes the instruction set first, as
`runtime.portable` does, so that the two can be timed in turn (and would fix the peer's too)."""

import os

from rlhf.core import portable

if os.environ.get("BENCH_PORTABLE"):
    portable.apply()  # before torch and numpy are imported
