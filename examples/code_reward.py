"""A reward that is a program: a response is worth what its code can do.

    -S ppo.source=function -S ppo.function_path=examples -S ppo.function=code_reward:score

-1 where the response holds no code that compiles, else the share of unit tests that it passes, 0 to 1. A prompt belongs
to the task of `code_tasks.jsonl` whose `task` stands in it. The code runs in bubblewrap, without network, with limits
on time, memory and files; where bubblewrap is missing nothing runs, and the error says so.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlhf.ppo.sandbox import Limits, check_sandbox, run_calls

TASKS = Path(__file__).with_name("code_tasks.jsonl")
LIMITS = Limits(wall_s=5.0, cpu_s=2.0, memory_bytes=512 << 20, file_bytes=1 << 20, processes=8)


@dataclass(frozen=True)
class Task:
    """A function to be written, and its unit tests: calls and what they must return."""

    task: str
    function: str
    calls: list[list[object]]
    expected: list[object]


def score(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """One score for each response. Raises ValueError for a prompt that belongs to no task."""
    _checked()
    return [worth(task_of(prompt), response) for prompt, response in zip(prompts, responses, strict=True)]


def worth(task: Task, response: str) -> float:
    """-1, or the share of the task's tests that the response's code passes."""
    code = code_in(response)
    ran = run_calls(code, task.function, task.calls, LIMITS)
    if not code.strip() or not ran.compiled:  # nothing compiles as well
        return -1.0
    # As JSON, so that 1 is not True and (1, 2) is [1, 2]; 2 and 2.0 are different answers.
    passed = [json.dumps(a) == json.dumps(b) for a, b in zip(map(_plain, ran.values), task.expected, strict=True)]
    return sum(passed) / len(passed)


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


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else repr(value)
