"""A Python function as a source of rewards."""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.errors import UserError
from rlhf.core.secrets import hide_keys
from rlhf.core.text import printable
from rlhf.models.reward import function_worker
from rlhf.models.text.control import unsigned
from rlhf.models.text.tokens import Episodes

TIMEOUT = "RLHF_FUNCTION_TIMEOUT_S"  # where the function finds how long it may take
LONGEST_LINE = 1 << 16  # characters of what the function prints that are shown at once
LONGEST_ANSWER = 1 << 26  # characters of a line; the scores of a batch are a thousandth of it


@runtime_checkable
class Texts(Protocol):
    """Prompts with their responses, as text and as tokens."""

    @property
    def prompts(self) -> Sequence[str]:
        """Return the prompts."""

    @property
    def responses(self) -> Sequence[str]:
        """Return a response to each."""

    @property
    def episodes(self) -> Episodes:
        """Return both as tokens."""


class FunctionSource:
    """Scores by `module:function`, which gets the prompts and the responses and returns a number for each response.

    It runs in a process of its own, started in `folder`, where the module is looked for first. Numbers may come as a
    list, an array or a tensor; they are used as they are, so the function chooses its scale (a reward model's is one
    standard deviation of the SFT policy). It should say the same of the same text: a run can then be made again. What
    looks like a key is not in its environment, and it ends when this process does.
    """

    def __init__(self, function: str, *, timeout_s: float, folder: Path) -> None:
        """Start the process and import the module.

        Raises:
            UserError: there is no such module or function, or importing it fails or takes longer than a minute and
                `timeout_s`.
        """
        self.function, self.timeout_s, folder = function, timeout_s, folder.resolve()
        self._asked = 0
        alive, self._alive = os.pipe()  # ends with this process
        self._process = subprocess.Popen(  # noqa: S603 - the user's own function
            [sys.executable, "-m", function_worker.__name__, function, str(os.getpid()), str(alive)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(folder, timeout_s),
            encoding="utf-8",
            errors="replace",
            pass_fds=[alive],
            start_new_session=True,  # so that what it starts can be ended with it
        )
        os.close(alive)
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=[cast(TextIOWrapper, self._process.stdout)], daemon=True).start()
        threading.Thread(target=_relay, args=[cast(TextIOWrapper, self._process.stderr)], daemon=True).start()
        threading.Thread(target=self._send, args=[cast(TextIOWrapper, self._process.stdin)], daemon=True).start()
        self._answer(60 + timeout_s, "importing it")

    def score(self, batch: Texts) -> Float[Tensor, " B"]:
        """Scores, on the device of `batch.episodes`. Raises UserError as `score_texts` does."""
        found = self.score_texts(batch.prompts, batch.responses)
        return torch.tensor(found, dtype=torch.float32, device=batch.episodes.mask.device)

    def score_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """One finite number for each response.

        Raises:
            UserError: the function raised, crashed, took longer than `timeout_s`, or returned something else; one line.
        """
        if self._process.returncode is not None:  # it was ended after an earlier error
            raise UserError(f"reward function {self.function}: its process has ended")
        self._asked += 1
        request = {"number": self._asked, "prompts": list(map(unsigned, prompts)), "responses": list(responses)}
        self._requests.put(json.dumps(request) + "\n")
        doing = f"scoring {len(responses)} responses"
        said = self._answer(self.timeout_s, doing)
        scores = said.get("scores")
        if said.get("number") != self._asked or not _are_scores(scores, len(responses)):
            raise self._nonsense(doing)
        return scores

    def close(self) -> None:
        """End the process, and what it may have started."""
        if self._process.returncode is None:  # not waited for: its group is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._requests.put(None)
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def _answer(self, timeout_s: float, doing: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise UserError(f"reward function {self.function}: {doing} took longer than {timeout_s:g} s") from None
        if not line:
            status = self._ended()
            raise UserError(f"reward function {self.function}: its process ended while {doing} (status {status})")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self._nonsense(doing)
        if "error" in said:
            self.close()
            raise UserError(f"reward function {self.function}: {printable(str(said['error']))[:500]}")
        return said

    def _ended(self) -> int:
        """The status of a process that says nothing more; one that lives on all the same is ended."""
        give_up = time.monotonic() + 1.0
        while time.monotonic() < give_up:  # looked at, not waited for: `close` ends its group first
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                break
            time.sleep(0.01)
        self.close()
        return int(self._process.returncode)

    def _nonsense(self, doing: str) -> UserError:
        self.close()
        return UserError(f"reward function {self.function}: its process wrote something of its own while {doing}")

    def _listen(self, stdout: TextIOWrapper) -> None:
        try:
            with stdout:
                while line := stdout.readline(LONGEST_ANSWER):
                    self._answers.put(line)
        finally:
            self._answers.put("")  # nothing more will come

    def _send(self, stdin: TextIOWrapper) -> None:
        """Hand on what is asked, in a thread of its own: a process that reads nothing holds up nobody."""
        with contextlib.suppress(OSError, ValueError), stdin:  # it died: the listener knows
            while (line := self._requests.get()) is not None:
                stdin.write(line)
                stdin.flush()


def _relay(stderr: TextIOWrapper) -> None:
    """Show what the function prints, which may be what a policy has written, so that it commands no terminal."""
    with contextlib.suppress(OSError, ValueError), stderr:
        while line := stderr.readline(LONGEST_LINE):
            sys.stderr.write(printable(line, lines=True))


def _are_scores(said: object, count: int) -> TypeGuard[list[float]]:
    """Whether these are so many finite numbers: a function that writes to its process's pipe may say anything."""
    if not isinstance(said, list) or len(said) != count:
        return False
    return all(isinstance(item, float) and math.isfinite(item) for item in said)


def _environment(folder: Path, timeout_s: float) -> dict[str, str]:
    """The environment of the worker: ours without keys, its folder and this package first among modules."""
    environment = dict(os.environ)
    hide_keys(environment)
    path = os.pathsep.join(filter(None, (str(folder), environment.get("PYTHONPATH"), *_roots())))
    own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", TIMEOUT: f"{timeout_s:g}"}  # the folder is an input
    return environment | own


def _roots() -> list[str]:
    """Where this package itself was found, for a worker that is started elsewhere."""
    return [str(Path(__file__).resolve().parents[3])]
