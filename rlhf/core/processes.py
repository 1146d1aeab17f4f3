"""The processes that share one run: which of them this is, and what they tell each other.

Work is cut into a fixed number of shards by a parameter, and processes take equal shares of them. What is computed is
then the same for any number of processes, up to the order of sums, and that is fixed here: `tree_sum` adds shards in
one balanced tree. Random numbers are drawn for all rows on every process and sliced; decisions are taken by every
process from the same gathered numbers. Only the first process ("main") prints and writes.

Plain collectives of torch.distributed over gloo; no DistributedDataParallel, whose all-reduce adds in an order that
depends on the number of processes (docs/adr/0020). A process that joins hides the launcher's variables afterwards, or
libraries would find them and distribute the work a second time.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlhf.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # all of them: torchrun's, and those a cluster's script sets
_MPI = ("PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD")  # whose sizes accelerate takes for its own launcher's
_HIDDEN: tuple[str, ...] = (*LAUNCHED, "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_HIDDEN += tuple(f"{prefix}_{name}" for prefix in _MPI for name in ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE"))


class Lost(Exception):  # noqa: N818 - what another process's end looks like from here
    """Another process of this run has ended or is out of reach. It, or the launcher, says why."""


@dataclass
class Traffic:
    """What this process has sent to others so far."""

    messages: int = 0
    bytes: int = 0

    def count(self, tensor: "Tensor", copies: int = 1) -> None:
        """Count one message with the bytes of `tensor` to each of `copies` others."""
        self.messages += copies
        self.bytes += tensor.numel() * tensor.element_size() * copies


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from the one with number `rank` of `size`; alone by default."""

    rank: int = 0
    size: int = 1
    traffic: Traffic = field(default_factory=Traffic, compare=False)

    @property
    def is_main(self) -> bool:
        """Say whether this process is the one that prints and writes."""
        return self.rank == 0

    def check_divides(self, shards: int, key: str) -> None:
        """Check that the shards of the parameter `key` can be shared equally.

        Raises:
            UserError: they cannot.
        """
        if problem := indivisible(self.size, shards, key):
            raise UserError(problem)

    def own(self, shards: int) -> range:
        """Return the shards of this process: equal shares, in order of rank, so that each is a branch of the tree."""
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def tree_sum(self, shards: int, part: Callable[[int], "Tensor"]) -> "Tensor":
        """Sum part(0) to part(shards - 1), of which each process computes its own, in one balanced tree.

        ((0 + 1) + (2 + 3)) + ...: a process's own shards are a branch of it; then processes 1, 2, 4, ... apart exchange
        their branches, log2(size) messages of the sum's size each. All end with the same bytes, whatever their number.
        """
        own = self.own(shards)
        total: Tensor = _tree(part, own.start, own.stop)
        apart = 1
        while apart < self.size:
            other = self._exchange(total, self.rank ^ apart)
            total = total + other if not self.rank & apart else other + total
            apart *= 2
        return total

    def gather(self, own: "Tensor") -> list["Tensor"]:
        """Return the tensors that all processes gave, of one shape and type, in order of rank."""
        if self.size == 1:
            return [own]
        import torch
        from torch import distributed

        sent = own.detach().cpu().contiguous()
        found = [torch.empty_like(sent) for _ in range(self.size)]
        with _talking():
            distributed.all_gather(found, sent)
        self.traffic.count(sent, self.size - 1)
        return [each.to(own.device) for each in found]

    def map(self, units: Sequence[T], work: Callable[[T], Any]) -> list[Any]:
        """Return work(unit), plain JSON data, for every unit, in order; each unit is done by one process.

        Units are fixed pieces of work, such as batches, so that the numbers are those of one process doing all of it.
        Every process gets the same units at the same moment. Tuples come back as lists.
        """
        if self.size == 1:
            return [work(unit) for unit in units]
        done = [work(unit) for unit in units[self.rank :: self.size]]
        found = [json.loads(text) for text in self._texts(json.dumps(done))]
        return [found[number % self.size][number // self.size] for number in range(len(units))]

    def numbers(self, *own: float) -> list[list[float]]:
        """Return the numbers that each process gave, in order of rank: what a common decision is taken from."""
        if self.size == 1:
            return [list(own)]
        import torch

        return [each.tolist() for each in self.gather(torch.tensor(own, dtype=torch.float64))]

    def tell(self, make: Callable[[], str]) -> str:
        """Return on every process the text that `make` gives on the main one; it is called there alone."""
        if self.size == 1:
            return make()
        import torch
        from torch import distributed

        text = make().encode() if self.is_main else b""
        size = torch.tensor([len(text)])
        with _talking():
            distributed.broadcast(size, 0)
            content = torch.zeros(int(size), dtype=torch.uint8)
            if text:
                content[:] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            distributed.broadcast(content, 0)
        return bytes(content.numpy()).decode()

    def check_same(self, weights: "Mapping[str, Tensor]") -> None:
        """Check that all processes hold the same weights, byte for byte, before they are saved.

        Raises:
            UserError: they do not; on every process alike.
        """
        if self.size == 1:
            return
        import torch

        sha = hashlib.sha256()
        for name in sorted(weights):
            sha.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        digest = sha.hexdigest()
        found = self.numbers(*(int(digest[at : at + 12], 16) for at in range(0, 60, 12)))
        for rank, numbers in enumerate(found):
            if numbers != found[0]:
                raise UserError(
                    f"process {rank} of {self.size} holds other weights than process 0: this is a fault of the "
                    "program, or of a machine; nothing was saved"
                )

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.numbers()

    def _texts(self, own: str) -> list[str]:
        """Return the texts that each process gave, in order of rank."""
        import torch

        data = torch.frombuffer(bytearray(own.encode()), dtype=torch.uint8)
        sizes = [int(size) for (size,) in self.numbers(len(data))]
        padded = torch.nn.functional.pad(data, (0, max(sizes) - len(data)))
        found = zip(self.gather(padded), sizes, strict=True)
        return [bytes(each[:size].numpy()).decode() for each, size in found]

    def _exchange(self, own: "Tensor", other: int) -> "Tensor":
        import torch
        from torch import distributed

        sent = own.detach().cpu().contiguous()
        got = torch.empty_like(sent)
        with _talking():
            ways = [distributed.P2POp(distributed.isend, sent, other), distributed.P2POp(distributed.irecv, got, other)]
            for work in distributed.batch_isend_irecv(ways):
                work.wait()
        self.traffic.count(sent)
        return got.to(own.device)


ALONE = Processes()
_current: list[Processes] = [ALONE]  # of this program: one


def current() -> Processes:
    """Return the processes that share this run; one alone where nothing was joined."""
    return _current[0]


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the cores that this process may use, at least 1: those of its affinity, at most a container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file outside Linux; "max 100000" where nothing is set
        granted, period = map(int, quota.read_text(encoding="ascii").split())
        count = min(count, granted // period)
    return max(count, 1)


def indivisible(processes: int, shards: int, key: str) -> str | None:
    """Say in one line why `processes` cannot share `shards`; None where they can."""
    if shards % processes == 0:
        return None
    allowed = ", ".join(str(number) for number in range(1, shards + 1) if shards % number == 0)
    return f"launch.processes: found {processes}; it must divide {key} ({shards}): allowed are {allowed}"


def launched() -> tuple[int, int] | None:
    """Read (rank, size) from what a launcher has set for this process; None for a process on its own.

    Raises:
        UserError: the variables are no numbers that make sense.
    """
    if any(name not in os.environ for name in LAUNCHED):
        return None
    texts = [os.environ[name] for name in LAUNCHED]
    if not all(text.isdecimal() for text in texts) or not int(texts[0]) < int(texts[1]):
        found = ", ".join(f"{name}={text!r}" for name, text in zip(LAUNCHED, texts, strict=True))
        raise UserError(f"the launcher's variables: found {found}; a rank from 0 to WORLD_SIZE - 1 is needed")
    return (int(texts[0]), int(texts[1])) if int(texts[1]) > 1 else None


def join(rank: int, size: int, *, timeout_s: float, meeting: str | None = None) -> Processes:
    """Join the processes of this run, and hide the launcher's variables from libraries.

    `meeting`: a file that all of them share, of processes on one machine; None takes MASTER_ADDR and MASTER_PORT. A
    process that is not answered for `timeout_s` seconds gives up.

    Raises:
        Lost: the others did not come.
    """
    import torch
    from torch import distributed

    where = f"file://{meeting}" if meeting else "env://"
    limit = timedelta(seconds=timeout_s)
    with _talking():
        distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=size, timeout=limit)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    hide()
    _current[0] = Processes(rank, size)
    return _current[0]


def hide() -> None:
    """Take a launcher's variables out of this process's environment, where libraries would find them.

    Also of a process on its own: accelerate would wrap the model for one process that `torchrun` has started, and wait
    for others in a container whose platform has set WORLD_SIZE.
    """
    for name in _HIDDEN:
        os.environ.pop(name, None)


def leave() -> None:
    """Part from the other processes at the end of the work."""
    if _current[0].size > 1:
        from torch import distributed

        _current[0] = ALONE
        distributed.destroy_process_group()


def fail() -> Processes:
    """Forget the other processes, so that this one may write what went wrong; return what they were."""
    before, _current[0] = _current[0], ALONE
    return before


def _tree(part: Callable[[int], Any], start: int, stop: int) -> Any:
    if stop - start == 1:
        return part(start)
    middle = (start + stop) // 2
    return _tree(part, start, middle) + _tree(part, middle, stop)


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """Raise Lost for what gloo and the stores raise where another process has gone or is silent."""
    try:
        yield
    except (RuntimeError, TimeoutError) as error:
        raise Lost(str(error).partition("\n")[0]) from error
