"""A Python function as a source of rewards."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.errors import UserError
from rlhf.ppo import function_worker
from rlhf.ppo.reward_sources import Scorable


class FunctionSource:
    """Scores by `module:function`, which gets the prompts and the responses and returns a number for each response.

    It runs in a process of its own, started in `folder`, where the module is looked for first. Numbers may come as a
    list, an array or a tensor; they are used as they are, so the function chooses its scale (a reward model's is one
    standard deviation of the SFT policy). It should say the same of the same text: a run can then be made again.
    """

    def __init__(self, function: str, *, timeout_s: float, folder: Path) -> None:
        """Start the process and import the module.

        Raises:
            UserError: there is no such module or function, or importing it fails or takes longer than a minute and
                `timeout_s`.
        """
        self.function, self.timeout_s, folder = function, timeout_s, folder.resolve()
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"), *_roots())))
        self._process = subprocess.Popen(  # noqa: S603 - the user's own function
            [sys.executable, "-m", function_worker.__name__, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},  # the folder is an input
            encoding="utf-8",
            start_new_session=True,  # so that what it starts can be ended with it
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stdin = cast(TextIOWrapper, self._process.stdin)
        threading.Thread(target=self._listen, args=[cast(TextIOWrapper, self._process.stdout)], daemon=True).start()
        self._answer(60 + timeout_s, "importing it")

    def score(self, batch: Scorable) -> Float[Tensor, " B"]:
        """Scores, on the device of `batch.episodes`. Raises UserError as `score_texts` does."""
        found = self.score_texts(batch.prompts, batch.responses)
        return torch.tensor(found, dtype=torch.float32, device=batch.episodes.mask.device)

    def score_texts(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """One finite number for each response.

        Raises:
            UserError: the function raised, crashed, took longer than `timeout_s`, or returned something else; one line.
        """
        request = json.dumps({"prompts": list(prompts), "responses": list(responses)})
        try:
            self._stdin.write(request + "\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError):  # it died, or was ended after an earlier error
            raise UserError(f"reward function {self.function}: its process has ended") from None
        scores: list[float] = self._answer(self.timeout_s, f"scoring {len(responses)} responses")["scores"]
        return scores

    def close(self) -> None:
        """End the process, and what it may have started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # what was not sent is not sent
            self._stdin.close()

    def _answer(self, timeout_s: float, doing: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise UserError(f"reward function {self.function}: {doing} took longer than {timeout_s:g} s") from None
        if not line:
            status = self._process.wait()
            raise UserError(f"reward function {self.function}: its process ended while {doing} (status {status})")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            self.close()
            raise UserError(f"reward function {self.function}: {said['error']}")
        return said

    def _listen(self, stdout: TextIOWrapper) -> None:
        try:
            with stdout:
                for line in stdout:
                    self._answers.put(line)
        finally:
            self._answers.put("")  # nothing more will come


def _roots() -> list[str]:
    """Where this package itself was found, for a worker that is started elsewhere."""
    return [str(Path(__file__).resolve().parents[2])]
