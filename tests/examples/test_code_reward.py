"""The worked example: code is worth the tests that it passes."""

from contextlib import closing
from pathlib import Path

import pytest

from examples import code_reward
from rlhf.core.errors import UserError
from rlhf.models.reward.function_source import FunctionSource
from rlhf.ppo.sandbox import check_sandbox
from tests.ppo.test_sandbox import needs_bwrap

ROOT = Path(__file__).resolve().parents[2]
ADD = "\n\nHuman: Write a Python function add(a, b) that returns the sum of a and b.\n\nAssistant:"
EVEN = "\n\nHuman: Write a Python function is_even(n) that tells whether n is even.\n\nAssistant:"


@needs_bwrap
@pytest.mark.parametrize(
    ("prompt", "response", "worth"),
    [
        (ADD, " Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nHope that helps.", 1.0),
        (ADD, " def add(a, b):\n    return a + b", 1.0),
        (ADD, " ```\nadd = lambda a, b: 3\n```", pytest.approx(1 / 3)),
        (ADD, " ```python\ndef add(a, b):\n    return a - b\n```", 0.0),
        (ADD, " ```python\ndef add(a, b) return a + b\n```", -1.0),
        (ADD, " I would rather not.", -1.0),
        (ADD, "", -1.0),
        (ADD, " ```python\ndef add(a, b):\n    return a + b", 1.0),  # cut off after the last line
        (ADD, " ```python\ndef add(a, b):\n    while True: pass\n```", 0.0),
        (ADD, " ```python\nimport os\nos._exit(0)\n```", 0.0),
        (EVEN, " ```python\ndef is_even(n):\n    return n % 2 == 0\n```", 1.0),
        (EVEN, " ```python\ndef is_even(n):\n    return 1 - n % 2\n```", 0.0),  # 1 is not True
    ],
)
def test_worth(prompt: str, response: str, worth: float) -> None:
    assert code_reward.score([prompt], [response]) == [worth]


@needs_bwrap
def test_it_is_a_reward_source() -> None:
    with closing(FunctionSource("examples.code_reward:score", timeout_s=300, folder=ROOT)) as source:
        responses = [" def add(a, b): return a + b", " def add(a, b: return"]
        assert source.score_texts([ADD, ADD], responses) == [1.0, -1.0]
        with pytest.raises(UserError, match=r"raised ValueError: code_tasks.jsonl has no task for the prompt"):
            source.score_texts(["\n\nHuman: Why?\n\nAssistant:"], ["x"])


def test_without_bubblewrap_it_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code_reward._checked.cache_clear()
    with pytest.raises(UserError, match="bwrap"):
        check_sandbox()
    with pytest.raises(UserError, match=r"bubblewrap .* is not installed"):
        code_reward.score([ADD], [" def add(a, b): return a + b"])
    code_reward._checked.cache_clear()


def test_every_task_has_as_many_answers_as_calls() -> None:
    assert len(code_reward.tasks()) == 4
    assert all(len(task.calls) == len(task.expected) > 1 for task in code_reward.tasks())
