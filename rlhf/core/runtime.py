"""Set up the process: device, precision, threads, seeds. Who shares the work is in `rlhf.core.processes`."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rlhf.core.errors import UserError
from rlhf.core.params import Section
from rlhf.core.processes import Processes, current
from rlhf.core.seeding import derive, generator

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState


class RuntimeParams(Section):
    """Where and how precisely to compute."""

    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    threads: int = Field(ge=1, le=256)
    portable: bool
    checkpoint_s: float = Field(gt=0)
    checkpoint_steps: int = Field(ge=0)


@dataclass(frozen=True)
class Runtime:
    """One process of a run."""

    params: RuntimeParams
    seed: int

    @classmethod
    def start(cls, params: RuntimeParams, seed: int) -> "Runtime":
        """Fix the number of threads and ask for deterministic kernels.

        The number of threads is a parameter because sums in another order give other last bits: runs are the same
        byte for byte only at the same number.

        Raises:
            UserError: cuda was asked for and is not there.
        """
        import torch

        if params.device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: found 'cuda', but torch sees no GPU; use 'auto' or 'cpu'")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        torch.set_num_threads(params.threads)
        torch.use_deterministic_algorithms(True, warn_only=params.device != "cpu")
        # Or it would also fill every new buffer with NaN, for programs that read what they never wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a property of the module
        torch.manual_seed(derive(seed, "global"))  # no draw of ours uses it; libraries may
        return cls(params, seed)

    @cached_property
    def _state(self) -> "PartialState":
        from accelerate import PartialState

        return PartialState(cpu=self.params.device == "cpu")

    @property
    def device(self) -> "torch.device":
        device: torch.device = self._state.device
        return device

    @property
    def dtype(self) -> "torch.dtype":
        import torch

        return torch.float32 if self.params.dtype == "float32" else torch.bfloat16

    @property
    def processes(self) -> Processes:
        """Return the processes that share this run's work."""
        return current()

    @property
    def is_main(self) -> bool:
        """Say whether this process writes files and draws progress bars."""
        return self.processes.is_main

    def generator(self, *stream: str | int) -> "torch.Generator":
        """Make a CPU generator for one random stream: the same on every process, which takes its own rows of a draw."""
        return generator(self.seed, *stream, "rank", 0)
