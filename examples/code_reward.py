"""A reward that is a program: a response is worth what its code can do.

    -S ppo.source=function -S ppo.function_path=examples -S ppo.function=code_reward:score

-1 where the response holds no code that compiles, else the share of unit tests that it passes, 0 to 1. A prompt belongs
to the task of `code_tasks.jsonl` whose `task` stands in it. The code runs in bubblewrap, without network, files to
write or other processes, with limits on time and memory; where bubblewrap is missing nothing runs, and the error says
so.
"""

import json
import math
import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from rlhf.ppo.sandbox import FAILED, Limits, check_sandbox, run_calls

TASKS = Path(__file__).with_name("code_tasks.jsonl")
LIMITS = Limits(wall_s=5.0, cpu_s=2.0, memory_bytes=512 << 20, answer_bytes=1 << 20)
TIMEOUT = "RLHF_FUNCTION_TIMEOUT_S"  # the worker's environment holds ppo.function_timeout_s there
SPENT = 0.6  # of that time, on running code; starting interpreters and the machine's other work have the rest
LEAST_S = 0.5  # of the clock, for any response


@dataclass(frozen=True)
class Task:
    """A function to be written, and its unit tests: calls and what they must return."""

    task: str
    function: str
    calls: list[list[object]]
    expected: list[object]


class Budget:
    """Time for a batch, so that responses that never end cost themselves and not the run.

    Each response may take an equal part of what is left when its turn comes; what quick ones leave goes to the others.
    """

    def __init__(self, seconds: float, responses: int, at_once: int) -> None:
        if responses * LEAST_S > seconds * at_once:
            need = math.ceil(responses * LEAST_S / at_once / SPENT)
            raise ValueError(f"{responses} responses at a time need ppo.function_timeout_s of at least {need} here")
        self._ends, self._left, self._at_once = time.monotonic() + seconds, responses, at_once
        self._lock = threading.Lock()

    def next_s(self) -> float:
        """Seconds for the next response."""
        with self._lock:
            part = (self._ends - time.monotonic()) * self._at_once / max(self._left, self._at_once)
            self._left -= 1
            return max(LEAST_S, part)


def score(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """One score for each response.

    Raises:
        ValueError: a prompt belongs to no task, or there are more responses than the time has room for.
        UserError: there is no sandbox.
    """
    _checked()
    tasks_of = [task_of(prompt) for prompt in prompts]
    at_once = len(os.sched_getaffinity(0))
    budget = Budget(SPENT * float(os.environ.get(TIMEOUT, "60")), len(responses), at_once)
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda task, response: worth(task, response, budget), tasks_of, responses))


def worth(task: Task, response: str, budget: Budget) -> float:
    """-1, or the share of the task's tests that the response's code passes."""
    code = code_in(response)
    if not code.strip():  # nothing compiles as well
        return -1.0
    limits = replace(LIMITS, wall_s=min(LIMITS.wall_s, budget.next_s()))
    ran = run_calls(code, task.function, task.calls, limits)
    if not ran.compiled:
        return -1.0
    return sum(map(same, ran.values, task.expected)) / len(task.expected)


def same(value: object, expected: object) -> bool:
    """Whether two JSON values are one: 1 is not True, 2 and 2.0 differ, a tuple came as a list, names have no order."""
    if value is FAILED or type(value) is not type(expected):
        return False
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[name], expected[name]) for name in expected)
    return value == expected


def code_in(response: str) -> str:
    """The first fenced block of a response, or all of it."""
    fenced = re.search(r"```(?:python)?[ \t]*\n(.*?)(?:```|\Z)", response, re.DOTALL)
    return fenced[1] if fenced else response.strip() + "\n"


def task_of(prompt: str) -> Task:
    """The task whose text stands in the prompt."""
    for task in tasks():
        if task.task in prompt:
            return task
    raise ValueError(f"{TASKS.name} has no task for the prompt {prompt[-80:]!r}")


@cache
def tasks() -> tuple[Task, ...]:
    """All tasks of the file."""
    return tuple(Task(**json.loads(line)) for line in TASKS.read_text(encoding="utf-8").splitlines())


@cache
def _checked() -> None:
    check_sandbox()


score.check = _checked  # the worker calls it before training begins
