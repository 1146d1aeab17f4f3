"""Stage commands in forks of one warmed-up process, each hit at a chosen moment by a signal or a full disk.

`python -m tests.stages.forker` reads requests (a line of JSON each) and answers when the child has ended. Importing
torch and its friends costs seconds; a fork of a process that has done so costs milliseconds, and is as good for a kill.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

STAGES = ("resolve", "prepare", "base", "sft", "reward", "ppo", "offline", "evaluate")
WARM = (
    "rlhf.params", "rlhf.prepare.build", "rlhf.prepare.write", "rlhf.base.make", "rlhf.sft.run", "rlhf.reward.train",
    "rlhf.reward.held_out_metrics", "rlhf.ppo.run", "rlhf.evaluate.run", "transformers.models.gpt2.modeling_gpt2",
    "torch.optim.adamw", "torch._dynamo", "accelerate.data_loader", "pyarrow",
)  # fmt: skip
KINDS = ("save", "plot", "result")  # of what is written, where it lies says which: a checkpoint, a curve, an out


@dataclass(frozen=True)
class Hit:
    """What happens to a child, and when: before its `count`-th write of a kind ("any" counts all, "start" none),
    `delay` seconds later. `signal` 0 is a full disk: that write, and every later one of its kind, is refused."""

    kind: str
    count: int = 1
    delay: float = 0.0
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a child ended. `signal` is what killed it, or 0; `writes` how many of each kind it had begun to make."""

    code: int
    signal: int
    said: str
    writes: dict[str, int]
    seconds: float


class Forker:
    """The warmed-up process."""

    def __init__(self, *warm: str) -> None:
        """`warm`: modules to import beside `WARM`."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stages.forker", *warm], cwd=Path(__file__).parents[2], env=environment,
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, stage: str, folder: Path, hit: Hit | None = None, *, largest: int = 0, **env: str) -> Ended:
        """The stage's command in `folder`; `name@item` is one that dvc.yaml repeats. `largest` > 0 limits the size of
        every file it writes, in bytes."""
        request = {"stage": stage, "folder": str(folder), "hit": hit and asdict(hit), "largest": largest, "env": env}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    for module in (*WARM, *sys.argv[1:], *(f"stages.{stage}" for stage in STAGES)):
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        said, counted = Path(request["folder"]) / ".git" / "said", Path(request["folder"]) / ".git" / "counted"
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(_child(request, said, counted))
        _, status = os.waitpid(child, 0)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        writes = {kind: counted.read_bytes().count(kind[:1].encode()) for kind in KINDS}
        code = 0 if killed else os.WEXITSTATUS(status)
        text = said.read_text(errors="replace")
        ended = Ended(code=code, signal=killed, said=text, writes=writes, seconds=time.monotonic() - begun)
        print(json.dumps(asdict(ended)), flush=True)


def _child(request: dict[str, object], said: Path, counted: Path) -> int:
    for number, path in ((1, said), (2, said), (3, counted)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
    os.chdir(str(request["folder"]))
    os.environ.update(request["env"])  # type: ignore[call-overload]
    if request["largest"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"], request["largest"]))  # type: ignore[arg-type]
    hit = Hit(**request["hit"]) if request["hit"] else None  # type: ignore[arg-type]
    _watch(hit)
    if hit and hit.kind == "start":
        _strike(hit)
    try:
        name, _, variant = str(request["stage"]).partition("@")
        importlib.import_module(f"stages.{name}").main(args=[variant] if variant else [])
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _watch(hit: Hit | None) -> None:
    """Count writes on descriptor 3, and hit at the right one."""
    seen = dict.fromkeys((*KINDS, "any"), 0)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        kind = _kind(event, arguments)
        if kind is None:
            return
        os.write(3, kind[:1].encode())
        for name in (kind, "any"):
            seen[name] += 1
        if hit is None or hit.kind not in (kind, "any"):
            return
        if hit.signal == 0 and seen[hit.kind] >= hit.count and event != "os.remove":
            raise OSError(28, "No space left on device")
        if hit.signal and seen[hit.kind] == hit.count:
            _strike(hit)

    sys.addaudithook(hook)


def _kind(event: str, arguments: tuple[object, ...]) -> str | None:
    """Which kind of file is about to be written, renamed or removed; None for anything else."""
    if event == "open":
        flags = arguments[2]
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return None
    elif event not in _FOLDER:
        return None
    path = os.path.relpath(_absolute(arguments[0], arguments[_FOLDER[event]] if event in _FOLDER else -1))
    top = path.partition(os.sep)[0]
    if ".checkpoints" in path:
        return "save"
    return "plot" if top == "plots" else "result" if top in ("artifacts", "metrics", "provenance") else None


_FOLDER = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "shutil.rmtree": 1}  # where its descriptor is


def _absolute(path: object, folder: object) -> Path:
    """A path that may be relative to an open folder, as `shutil.rmtree` has them."""
    above = Path(f"/proc/self/fd/{folder}").readlink() if isinstance(folder, int) and folder >= 0 else Path.cwd()
    return above / os.fsdecode(path) if isinstance(path, str | bytes | Path) else Path("/")


def _strike(hit: Hit) -> None:
    def strike() -> None:
        time.sleep(hit.delay)
        os.kill(os.getpid(), hit.signal)

    if hit.delay:
        threading.Thread(target=strike, daemon=True).start()
    else:
        os.kill(os.getpid(), hit.signal)


if __name__ == "__main__":
    serve()
