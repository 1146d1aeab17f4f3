"""Reward functions, good ones and all the others. Each runs in a process of its own."""

import os
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.outputs import Forward
from rlhf.models.text.tokens import Episodes
from rlhf.ppo import function_worker
from rlhf.ppo.function_source import FunctionSource
from rlhf.ppo.reward_sources import RewardSource, Scorable

MODULE = """
import os, sys, time

def length(prompts, responses):
    print("this goes nowhere near the protocol")
    return [float(len(r)) - len(p) for p, r in zip(prompts, responses)]

def tensor(prompts, responses):
    import torch
    return torch.tensor([len(r) for r in responses])
def array(prompts, responses):
    import numpy
    return numpy.array([len(r) for r in responses], dtype=numpy.float32)
def items(prompts, responses):
    import numpy, torch
    return [torch.tensor(1.5), numpy.float64(2.5)]
def too_few(prompts, responses): return [1.0]
def nested(prompts, responses):
    import torch
    return torch.zeros(2, 1)
def one(prompts, responses): return 3.0
def nothing(prompts, responses): pass
def generator(prompts, responses): yield from (1.0, 2.0)
def nan(prompts, responses): return [1.0, float("nan")]
def infinite(prompts, responses):
    import numpy
    return numpy.array([-numpy.inf, 1.0])
def text(prompts, responses): return ["1.0", "2.0"]
def raises(prompts, responses): raise KeyError("no such\\nthing")
def hangs(prompts, responses):
    os.system("sleep 6000 &")
    time.sleep(6000)
def crashes(prompts, responses): os._exit(3)
def exits(prompts, responses): sys.exit("enough")
value = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "rewards.py").write_text(MODULE)
    (folder / "broken.py").write_text("x = 1\nraise RuntimeError('not today')\n")
    (folder / "needs.py").write_text("import no_such_package_at_all\n")
    (folder / "spelt.py").write_text("def f(:\n")
    return folder


def source(folder: Path, name: str, timeout_s: float = 300.0) -> FunctionSource:
    return FunctionSource(name if ":" in name else f"rewards:{name}", timeout_s=timeout_s, folder=folder)


def test_a_function_is_a_reward_source(folder: Path) -> None:
    with closing(source(folder, "length")) as function:
        assert isinstance(function, RewardSource)
        episodes = Episodes.of([[1], [1, 2]], [[3], [4]], pad_id=0, device="cpu")
        unused = Forward(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 3, 4))
        batch = Scorable(["ab", "c"], [" yes", " no"], torch.tensor([True, True]), episodes, unused)
        scores = function.score(batch)
        assert scores.dtype == torch.float32
        assert scores.tolist() == [2.0, 2.0]
        assert function.score_texts(["p"], ["line\nbreak \u2028 and \U0001f600"]) == [17.0]
        assert function.score_texts([], []) == []


def load_in_process(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> list[float]:
    """Without a process: fast, and the same code as the worker runs."""
    monkeypatch.syspath_prepend(str(folder))
    function = function_worker.load(f"rewards:{name}")
    return function_worker.scores(function, ["p", "p"], [" four", " no"])


@pytest.mark.parametrize(("name", "scores"), [("tensor", [5.0, 3.0]), ("array", [5.0, 3.0]), ("items", [1.5, 2.5])])
def test_numbers_in_any_dress(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, scores: list[float]) -> None:
    assert load_in_process(folder, monkeypatch, name) == scores


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_few", "returned 1 scores for 2 responses"),
        ("nested", "score 0 is list [0.0]; expected a number"),
        ("one", "returned float 3.0; expected a list of 2 numbers"),
        ("nothing", "returned NoneType None; expected a list of 2 numbers"),
        ("generator", "returned generator"),
        ("nan", "score 1 is nan, for the response ' no'"),
        ("infinite", "score 0 is -inf, for the response ' four'"),
        ("text", "score 0 is str '1.0'; expected a number"),
        ("raises", "raised KeyError: 'no such\\nthing' (rewards.py:"),
    ],
)
def test_what_is_no_reward_is_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    with pytest.raises(function_worker.Unusable) as caught:
        load_in_process(folder, monkeypatch, name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rewards", "expected module:function, found 'rewards'"),
        (":f", "expected module:function, found ':f'"),
        ("nowhere:f", "no module 'nowhere' in "),
        ("rewards.deeper:f", "no module 'rewards.deeper' in "),
        ("rewards:misspelt", "rewards has no function 'misspelt'; found nothing"),
        ("rewards:value", "rewards has no function 'value'; found int"),
        ("broken:f", "importing broken raised RuntimeError: not today (broken.py:2)"),
        ("needs:f", "importing needs raised ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("spelt:f", "importing spelt raised SyntaxError"),
    ],
)
def test_what_cannot_be_imported(folder: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(function_worker.Unusable) as caught:
        function_worker.load(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_cross_the_process_and_end_it(folder: Path) -> None:
    with pytest.raises(UserError, match="reward function rewards:misspelt: rewards has no function"):
        source(folder, "misspelt")
    function = source(folder, "nan")
    with pytest.raises(UserError, match="reward function rewards:nan: score 1 is nan"):
        function.score_texts(["p", "p"], ["a", "b"])
    with pytest.raises(UserError, match="its process has ended"):
        function.score_texts(["p", "p"], ["a", "b"])


def test_a_function_that_hangs_is_ended_with_all_it_started(folder: Path) -> None:
    function = source(folder, "hangs", timeout_s=1.0)
    group = function._process.pid
    with pytest.raises(UserError, match="rewards:hangs: scoring 1 responses took longer than 1 s"):
        function.score_texts(["p"], ["r"])
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("something that the function started still runs")


@pytest.mark.parametrize(("name", "status"), [("crashes", 3), ("exits", 1)])
def test_a_function_that_ends_its_process(folder: Path, name: str, status: int) -> None:
    with (
        closing(source(folder, name)) as function,
        pytest.raises(UserError, match=rf"its process ended while scoring 2 responses \(status {status}\)"),
    ):
        function.score_texts(["p", "p"], ["a", "b"])
