"""Stage commands in forks of one warmed-up process, each hit at a chosen moment by a signal or a full disk if need be.

Importing torch and its friends costs seconds; a fork of a process that has done so costs milliseconds, and is as good
for a kill. `python -m tests.stages.forker FOLDER` serves requests at FOLDER/socket: one JSON object a connection, and a
handler of its own for each, which waits for the stage and answers when it has ended.

FOLDER/bin/python is for whatever starts `python -m stages.<name>` itself, as DVC does: put first on PATH it hands the
command on to the server, with its folder, environment and open files (and `python -m dvc` as well), and runs everything
else by the real Python.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STAGES = ("resolve", "prepare", "base", "conformance", "sft", "reward", "ppo", "offline", "evaluate", "diagnose")
STAGES += ("acquire", "compare", "report")
WARM = (
    "rlhf.params", "rlhf.prepare.build", "rlhf.prepare.write", "rlhf.base.make",
    "rlhf.conformance.run", "rlhf.sft.run", "rlhf.reward.train", "rlhf.reward.held_out_metrics", "rlhf.ppo.run",
    "rlhf.evaluate.run", "rlhf.compare.compare",
    "rlhf.compare.table", "rlhf.report.build", "rlhf.report.inputs", "transformers.models.gpt2.modeling_gpt2",
    "torch.optim.adamw", "torch._dynamo", "accelerate.data_loader", "pyarrow", "scipy.stats", "choix",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "peft.utils.transformers_weight_conversion",
    "dvc.cli", "dvc.repo.experiments", "dvc.repo.reproduce", "dvc_data.index", "dvc.commands.repro",
)  # fmt: skip
KINDS = ("save", "plot", "result")  # of what is written, where it lies says which: a checkpoint, a curve, an out

PYTHON = """#!{real} -IS
import os, sys
module = sys.argv[2] if sys.argv[1:2] == ["-m"] else ""
if module != "dvc" and not module.startswith("stages."):
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
import json, signal, socket
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    request = {{"module": module, "args": sys.argv[3:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    socket.send_fds(server, [b"!"], [0, 1, 2])
    answers = server.makefile("rw")
    print(json.dumps(request), file=answers, flush=True)
    child = json.loads(answers.readline())["pid"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    ended = json.loads(answers.readline())
sys.exit(128 + ended["signal"] if ended["signal"] else ended["code"])
"""


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
    out: str
    err: str
    writes: dict[str, int]
    seconds: float

    @property
    def said(self) -> str:
        """All that it printed, errors last."""
        return self.out + self.err


class Forker:
    """The warmed-up process; started by the first command."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="forker"))  # short: the name of a socket has room for 100 characters
        self.python = self.folder / "bin" / "python"
        self.python.parent.mkdir()
        self.python.write_text(PYTHON.format(real=sys.executable, socket=str(self.folder / "socket")))
        self.python.chmod(0o755)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stages.forker", str(self.folder)], cwd=Path(__file__).parents[2],
            env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self, stage: str, folder: Path, hit: Hit | None = None, *, largest: int = 0, args: tuple[str, ...] = (),
        **env: str,
    ) -> Ended:  # fmt: skip
        """The stage's command in `folder`; `name@item` is one that dvc.yaml repeats. `largest` > 0 limits the size of
        every file it writes, in bytes."""
        name, _, variant = stage.partition("@")
        return Ended(
            **self._ask(
                module=f"stages.{name}", args=[*([variant] if variant else []), *args], folder=str(folder),
                hit=hit and asdict(hit), largest=largest, environment={**os.environ, "OMP_NUM_THREADS": "1", **env},
            )
        )  # fmt: skip

    def warm(self, *modules: str) -> None:
        """Import more in the server, so that no child has to."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*modules, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "ready\n"

    def _ask(self, **request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self.folder / "socket"))
            server.sendall(b"!")
            answers = server.makefile("rw")
            print(json.dumps(request), file=answers, flush=True)
            assert "pid" in json.loads(answers.readline())
            return json.loads(answers.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        self._process.communicate()
        shutil.rmtree(self.folder)


def serve(folder: Path) -> None:
    """Until standard input ends. Lines of it are more modules to import."""
    _import((*WARM, *(f"stages.{stage}" for stage in STAGES)))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the handlers
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, listening], [], [])
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                os._exit(0)  # at once: taking so much down in order takes seconds
            _import(line.split())
            print("ready", flush=True)
        if listening in ready:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _end(_handle, client)
            client.close()


def _import(names: tuple[str, ...] | list[str]) -> None:
    """Import modules, in which no child will look for garbage: to do so takes it half a second each time."""
    gc.disable()
    for name in names:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()


def _end(work: Any, *arguments: Any) -> None:
    """The end of a forked process, in which nothing of its parent's may run again."""
    code = 1
    try:
        code = work(*arguments) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _handle(client: socket.socket) -> None:
    """One command: it runs in a child; what it prints goes to the files that came with the request, or is kept."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    answers = client.makefile("rw")
    request = json.loads(answers.readline())
    pipes = [os.pipe() for _ in range(3)]  # output, errors, a letter for each write
    ends = [*files[1:], pipes[2][1]] if files else [end for _, end in pipes]
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        for number, end in zip(range(1, 4), [os.dup(end) for end in ends], strict=True):
            os.dup2(end, number)
        os.dup2(files[0] if files else os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(4, 64 + max(ends))
        _end(_command, request)
    for end in (*files, *(end for _, end in pipes)):
        os.close(end)
    print(json.dumps({"pid": child}), file=answers, flush=True)
    held = _gathered([end for end, _ in pipes], client, child)
    _, status = os.waitpid(child, 0)
    ended = {
        "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "out": held[0].decode(errors="replace"),
        "err": held[1].decode(errors="replace"),
        "writes": {kind: held[2].count(kind[:1].encode()) for kind in KINDS},
        "seconds": time.monotonic() - begun,
    }
    with contextlib.suppress(OSError):  # whoever asked may be gone
        print(json.dumps(ended), file=answers, flush=True)


def _gathered(ends: list[int], client: socket.socket, child: int) -> list[bytes]:
    """All that comes out of pipes until the child has ended (what it started may hold them open for longer). Where
    whoever asked is gone, killed as a command's whole group would be, so is the child."""
    held, reading = dict.fromkeys(ends, b""), [*ends, client.fileno()]
    over = False
    while not over:
        over = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        while ready := select.select(reading, [], [], 0.0 if over else 0.01)[0]:
            for end in ready:
                data = client.recv(1 << 16) if end == client.fileno() else os.read(end, 1 << 16)
                if not data:
                    reading.remove(end)
                    if end == client.fileno():
                        os.kill(child, signal.SIGKILL)
                elif end in held:
                    held[end] += data
    return list(held.values())


def _command(request: dict[str, Any]) -> int:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"], request["largest"]))
    hit = Hit(**request["hit"]) if request.get("hit") else None
    _watch(hit)
    if hit and hit.kind == "start":
        _strike(hit)
    sys.argv = [request["module"], *request["args"]]
    if request["module"] == "dvc":
        return int(importlib.import_module("dvc.cli").main(request["args"]))
    importlib.import_module(request["module"]).main(args=request["args"])
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
    serve(Path(sys.argv[1]))
