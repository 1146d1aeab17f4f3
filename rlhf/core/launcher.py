"""Start a stage again as several processes of this machine, by torchrun's launcher, and say in one line how they ended.

The stage's own process becomes the launcher: `torch.distributed.launcher` is what `torchrun --standalone` calls, here
without a port that other machines could reach (a file for the meeting, gloo on the loopback device). One process that
ends with an error, or is killed, ends all: those that wait for it notice the closed connection, and the launcher sends
SIGTERM to the rest, which ends a process that it has started at once, whatever it does. A user's SIGINT or SIGTERM to
the launcher reaches every process as SIGINT: a training loop then saves, once, and all stop.
"""

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from pydantic import Field

from rlhf.core import processes
from rlhf.core.errors import UserError
from rlhf.core.failures import report
from rlhf.core.params import Section, check, dug
from rlhf.core.processes import Lost, Processes

# stage -> (the parameter that cuts its work, a choice, and the value of it with which there is such work; "" = always)
SHARDS: dict[str, tuple[str, str, object]] = {
    "base": ("base.pretrain.shards", "base.source", "pretrain"),
    "sft": ("sft.shards", "", ""),
    "reward": ("reward.tune.shards", "reward.train", "lora"),
    "ppo": ("ppo.shards", "", ""),
    **{
        f"offline@{method}": ("offline.shared.shards", f"offline.{method}.run", True)
        for method in ("dpo", "ipo", "rrhf", "rejection")
    },
}
# stage -> whether its work is batches, which are the same for any number of processes
BATCHED: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "reward": lambda resolved: dug(resolved, "reward.train") == "head",
    "evaluate": lambda resolved: dug(resolved, "evaluate.judge.prompts") == 0,
    "compare": lambda resolved: any(part.get("run") for part in (dug(resolved, "offline") or {}).values()),
}
RESOLVED = "params.resolved.json"
FOLDER = "RLHF_PROCESSES"  # where the processes that this module starts meet, and leave what went wrong
LOST = 75  # exit status of a process that ended because another one did
STOPPED = 130
_GRACE_S = 0.5  # for the others to fail of the same reason, or to be seen dead, before this process ends
_WATCH_S = 1.0
Stream = Any  # a text stream; TextIO asks for more than SafeStream has
_TIMEOUT_S = 1800.0  # where params.resolved.json was written by hand, without a section `launch`
_PR_SET_PDEATHSIG = 1


class LaunchParams(Section):
    """How many processes share a stage's work. No stage declares it: it changes no byte."""

    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    timeout_s: float = Field(ge=1, le=86_400)


def started() -> Path | None:
    """Return the meeting folder where this process is one that `launch` has started."""
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder else None


@dataclass(frozen=True)
class Shared:
    """How this program takes part in a stage's work."""

    place: tuple[int, int] | None = None  # (rank, size), where a launcher has started it
    launches: int = 0  # how many processes it is to start itself; 0 = none
    timeout_s: float = 0.0

    @property
    def checks(self) -> bool:
        """Say whether this is the program that checks what the stage starts from: the first, or the launcher."""
        return self.place is None or self.place[0] == 0


def shards_of(stage: str, resolved: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the key and the number of a stage's shards; None where its work is not shared."""
    key, chosen, needed = SHARDS.get(stage, ("", "", ""))
    found = dug(resolved, key) if key else None
    if not isinstance(found, int) or (chosen and dug(resolved, chosen) != needed):
        return None
    return key, found


def one_asks(count: int, resolved: Mapping[str, Any]) -> str | None:
    """Say in one line why `count` processes cannot sample as they should; None where they can."""
    if count == 1 or dug(resolved, "ppo.sampler") != "vllm":
        return None
    return f"ppo.sampler: found 'vllm', which one process asks, and launch.processes {count}; set it to 1, or native"


def shared(stage: str, resolved: Mapping[str, Any]) -> Shared:
    """Decide how the stage's work is shared: as a launcher has set up, else as `launch.processes` says.

    Raises:
        UserError: the number of processes does not divide the shards, or this stage runs in one.
    """
    place, parts = processes.launched(), shards_of(stage, resolved)
    batched = stage in BATCHED and BATCHED[stage](resolved)
    launch = check(LaunchParams, resolved["launch"], where=RESOLVED, key="launch") if "launch" in resolved else None
    count = place[1] if place else _count(launch, stage, parts, resolved) if launch and (parts or batched) else 1
    if count > 1 and not (parts or batched):
        raise UserError(f"{stage}: started as {count} processes; it runs in one")
    if parts and (problem := processes.indivisible(count, parts[1], parts[0])):
        raise UserError(problem)
    if stage == "ppo" and (problem := one_asks(count, resolved)):
        raise UserError(problem)
    return Shared(place, 0 if place or count == 1 else count, launch.timeout_s if launch else _TIMEOUT_S)


def _count(launch: LaunchParams, stage: str, parts: tuple[str, int] | None, resolved: Mapping[str, Any]) -> int:
    """Return `launch.processes`; for auto the most that this machine has cores for and that divide the shards.

    Work that is not cut into shards of its own goes by those of PPO. auto is one on a GPU, which processes would have
    to share, and where one process asks a sampling server.
    """
    if launch.processes != "auto":
        return launch.processes
    if dug(resolved, "runtime.device") != "cpu" or (stage == "ppo" and one_asks(2, resolved)):
        return 1
    shards = parts[1] if parts else int(dug(resolved, "ppo.shards") or 1)
    room = processes.cores() // int(dug(resolved, "runtime.threads") or 1)
    return max(count for count in range(1, shards + 1) if shards % count == 0 and count <= max(room, 1))


def meet(shared: Shared) -> Processes:
    """Join the processes that a launcher has started, if one has. Raises Lost if they do not come."""
    if shared.place is None:
        processes.hide()
        return processes.ALONE
    if folder := started():
        follow_parent()
    meeting = str(folder / "processes") if folder else None
    return processes.join(*shared.place, timeout_s=shared.timeout_s, meeting=meeting)


def ready_for_signals(stop: Callable[[int, FrameType | None], None]) -> None:
    """Let `stop` be called at the signals that ask to stop, also where a shell has had SIGINT ignored."""
    if started():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in stop_signals():
        signal.signal(number, stop)


def stop_signals() -> tuple[signal.Signals, ...]:
    """List the signals that ask this process to stop when it has saved."""
    return (signal.SIGINT,) if started() else (signal.SIGINT, signal.SIGTERM)


def launch(arguments: Sequence[str], count: int, *, stage: str, say: Callable[[str], None]) -> int:
    """Run `python arguments` as `count` processes; return the exit status of all together.

    `say` gets the lines to show, at most one for each different reason.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="rlhf-processes-") as name, _passing_signals_on(), _quiet():
        os.environ[FOLDER] = name
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or the launcher listens to the network
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=stage,
            rdzv_backend="c10d",
            rdzv_endpoint=str(Path(name) / "launcher"),
            rdzv_configs={"store_type": "file"},
            local_addr="localhost",
            max_restarts=0,
            signals_to_handle="SIGQUIT",  # SIGINT and SIGTERM are handled here
        )
        try:
            elastic_launch(config, entrypoint=sys.executable)(*arguments)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            return verdict(stage, count, codes, told(Path(name)), say)
        finally:
            del os.environ[FOLDER]
    return 0


def verdict(
    stage: str, count: int, codes: Mapping[int, int], lines: Mapping[int, Sequence[str]], say: Callable[[str], None]
) -> int:
    """Say why the processes ended, and return the status for all: 130 where they were asked to stop, else 1.

    `codes`: exit statuses of those that did not end well, first the first that was seen; below 0 the signal. `lines`:
    what each of them said. What all of them said is nobody's in particular, and is said without a rank.
    """
    if lines:
        everybody = len(lines) == count and len({tuple(each) for each in lines.values()}) == 1
        shown = {} if everybody else {rank: f" (process {rank} of {count})" for rank in lines}
        for rank in sorted(lines)[: 1 if everybody else None]:
            for line in lines[rank]:
                say(line + shown.get(rank, ""))
        return 1
    ended = {rank: code for rank, code in codes.items() if code not in (LOST, -signal.SIGTERM)}
    if any(code in (STOPPED, -signal.SIGINT) for code in ended.values()):
        say(f"{stage}: stopped; the same command resumes from the last checkpoint")
        return STOPPED
    rank, code = next(iter(ended.items()), next(iter(codes.items())))
    what = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    if code == LOST:
        what = "was not answered by another process in launch.timeout_s"
    memory = ", as a system without memory does" if code == -signal.SIGKILL else ""
    say(
        f"error: {stage}: process {rank} of {count} {what}{memory}; the others were ended with it, and the same "
        "command resumes from the last checkpoint"
    )
    return 1


def says_stopped() -> bool:
    """Say whether this process tells the user that it was asked to stop: the launcher does it for those it started."""
    return processes.fail().is_main and not started()


def end(error: BaseException, stage: str, tracebacks: Path, errors: Stream) -> int:
    """Say why this process fails, and return its exit status."""
    who = processes.fail()
    if who.size == 1 and started():  # it failed before it met the others
        who = Processes(*(processes.launched() or (0, 1)))
    if isinstance(error, Lost):
        return end_lost(who, error, errors)
    lines = report(error, stage, tracebacks)
    if who.size > 1:
        tell(lines, who, errors)
    else:
        errors.writelines(f"{line}\n" for line in lines)
        errors.flush()
    return 1


def told(folder: Path) -> dict[int, list[str]]:
    """Read what the processes said of their failures, by rank."""
    found = {int(path.stem.removeprefix("failed-")): path for path in folder.glob("failed-*.json")}
    return {rank: json.loads(found[rank].read_text(encoding="utf-8")) for rank in sorted(found)}


def tell(lines: Sequence[str], who: Processes, errors: Stream) -> None:
    """Say why this process fails: to the launcher that started it, else on `errors`, with its rank."""
    folder = started()
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / f".{who.rank}.json").write_text(json.dumps(list(lines)), encoding="utf-8")
            (folder / f".{who.rank}.json").rename(folder / f"failed-{who.rank}.json")
            time.sleep(_GRACE_S)
            return
    for line in lines:
        errors.write(f"{line} (process {who.rank} of {who.size})\n")
    errors.flush()


def end_lost(who: Processes, error: BaseException, errors: Stream) -> int:
    """Give the one that ended first time to be seen, and return the status of one that ended because of it."""
    if started() is None:
        errors.write(f"process {who.rank} of {who.size}: another process has ended or is silent ({error})\n")
        errors.flush()
    time.sleep(4 * _GRACE_S)
    return LOST


def follow_parent() -> None:
    """End this process when the launcher ends, however it ends: at once on Linux, within a second elsewhere."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=[parent], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _passing_signals_on() -> Iterator[None]:
    """Hand SIGINT and SIGTERM on to the processes as SIGINT; before there are any, the first one ends this one."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        import psutil

        children = psutil.Process().children()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)
        if not children:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's launcher, which reports a failure over thirty lines: `verdict` has one."""
    logger = logging.getLogger("torch.distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
