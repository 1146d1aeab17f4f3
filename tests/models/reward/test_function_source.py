"""Reward functions, good ones and all the others. Each runs in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.outputs import Forward
from rlhf.models.reward import function_worker
from rlhf.models.reward.function_source import FunctionSource
from rlhf.models.text.tokens import Episodes
from rlhf.ppo.reward_sources import RewardSource, Scorable

MODULE = r"""
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
def raises(prompts, responses): raise KeyError("no such\nthing")
def hangs(prompts, responses):
    os.system("sleep 6000 &")
    time.sleep(6000)
def crashes(prompts, responses): os._exit(3)
def exits(prompts, responses): sys.exit("enough")
value = 3

class Loud(Exception):
    def __str__(self): raise KeyError
    __repr__ = __str__
class Loudest(BaseException):
    def __str__(self): sys.exit(4)
    __repr__ = __str__
class Odd:
    def __repr__(self): raise Loudest
    def __float__(self): raise Loudest
class Hidden:
    def __getattribute__(self, name): raise Loudest
class Endless(list):
    def __iter__(self):
        while True: yield 1.0
    def __len__(self): return 2
    def __getitem__(self, index): return 1.0
class Long(list):
    def __len__(self): return 10 ** 9
def raises_loud(prompts, responses): raise Loud
def raises_loudest(prompts, responses): raise Loudest
def raises_interrupt(prompts, responses): raise KeyboardInterrupt
def raises_generator_exit(prompts, responses): raise GeneratorExit
def raises_group(prompts, responses): raise ExceptionGroup("many\x1b[2J", [ValueError(1), KeyError(2)])
def raises_codes(prompts, responses): raise ValueError("\x1b[2J\u202e\r\n\x00\ud800")
def raises_memory(prompts, responses): return [0.0] * (1 << 60)
def raises_os(prompts, responses): open("/nowhere/at/all")
def raises_unicode(prompts, responses): return [float(len("\ud800".encode()))] * 2
def raises_warning(prompts, responses): raise UserWarning("careful")
def raises_stop(prompts, responses): raise StopIteration
def recursion(prompts, responses): return recursion(prompts, responses)
def odd(prompts, responses): return [Odd(), Odd()]
def odd_itself(prompts, responses): return Odd()
def hidden(prompts, responses): return Hidden()
def hidden_in(prompts, responses): return [Hidden(), Hidden()]
def endless(prompts, responses): return Endless()
def long(prompts, responses): return Long([1.0, 2.0])
def bools(prompts, responses): return [True, False]
def decimals(prompts, responses):
    import decimal, fractions
    return [decimal.Decimal("1.5"), fractions.Fraction(1, 4)]
def decimal_nan(prompts, responses):
    import decimal
    return [decimal.Decimal("nan"), decimal.Decimal("snan")]
def tuples(prompts, responses): return (1, 2.5)
def nones(prompts, responses): return [None, None]
def huge(prompts, responses): return [10 ** 400, 1]
def complexes(prompts, responses): return [1j, 2j]
def bytes_(prompts, responses): return [b"1.0", b"2.0"]
def sets(prompts, responses): return {1.0, 2.0}
def dicts(prompts, responses): return {0: 1.0, 1: 2.0}
def words(prompts, responses): return "12"
def counter(prompts, responses):
    import itertools
    return itertools.count()
def ranges(prompts, responses): return range(2)
def maps(prompts, responses): return map(len, responses)
def bits(prompts, responses):
    import torch
    return torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
def square(prompts, responses):
    import numpy
    return numpy.ones((2, 2))
def scalar(prompts, responses):
    import torch
    return torch.tensor(2.0)
def strings(prompts, responses):
    import numpy
    return numpy.array(["1.0", "2.0"])
def itself(prompts, responses): return itself
def kind(prompts, responses): return list
def array_kind(prompts, responses):
    import numpy
    return numpy.ndarray
def cyclic(prompts, responses):
    found = [1.0, 2.0]
    found[1] = found
    return found

def prints(prompts, responses):
    print("out"); print("err", file=sys.stderr); os.write(1, b"fd 1"); sys.stdout.buffer.write(b"\xff")
    return [1.0, 2.0]
def closes(prompts, responses):
    os.closerange(0, 256)
    return [1.0, 2.0]
def closes_out(prompts, responses):
    os.closerange(3, 256)
    return [1.0, 2.0]
def swaps(prompts, responses):
    sys.stdin = sys.stdout = sys.stderr = None
    return [1.0, 2.0]
def writes(prompts, responses):
    for number in range(3, 32):
        try: os.write(number, b"not JSON\n")
        except OSError: pass
    return [1.0, 2.0]
def writes_numbers(prompts, responses):
    for number in range(3, 32):
        try: os.write(number, b'{"scores": [NaN, "x"]}\n[' + b"[" * 100000 + b"\n")
        except OSError: pass
    return [1.0, 2.0]
def writes_bytes(prompts, responses):
    for number in range(3, 32):
        try: os.write(number, b"\xff\xfe\n")
        except OSError: pass
    return [1.0, 2.0]
def killed(prompts, responses): os.kill(os.getpid(), 9)
def aborts(prompts, responses): os.abort()
def deep(prompts, responses):
    import ctypes
    ctypes.string_at(0)
def environment(prompts, responses):
    return [float(sum(name in os.environ for name in prompts)), float(len(open("/proc/self/environ").read().split("hush")))]
def forks(prompts, responses):
    os.fork()
    return [float(len(r)) for r in responses]
def answers_twice(prompts, responses):
    scores = [float(len(r)) for r in responses]
    for number in range(3, 32):
        try: os.write(number, b'{"number": 1, "scores": [0.0, 0.0]}\n')
        except OSError: pass
    return scores
def shows(prompts, responses):
    print("reply \x1b[2J\u202e\rand more"); sys.stderr.write("10%\r20%\n"); os.write(2, b"\xff\x9b\n")
    return [1.0, 2.0]
def threads(prompts, responses):
    import threading
    def later():
        while True: time.sleep(0.01)
    threading.Thread(target=later).start()
    threading.Thread(target=lambda: 1 / 0).start()
    return [1.0, 2.0]
def processes(prompts, responses):
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return [float(n) for n in pool.map(len, responses)]
def elsewhere(prompts, responses):
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    os.umask(0o777)
    return [1.0, 2.0]
def signals(prompts, responses):
    import signal
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
    return [1.0, 2.0]
def fills(prompts, responses):
    for _ in range(2000): print("x" * 1000)
    return [1.0, 2.0]
def many_digits(prompts, responses): return [10 ** 5000, 1]
def wrong_type(prompts, responses):
    import numpy
    return numpy.array([{}, None], dtype=object)
def masked(prompts, responses):
    import numpy
    return numpy.ma.masked_array([1.0, 2.0], mask=[True, False])
def empty_tensor(prompts, responses):
    import torch
    return torch.tensor([])
def meta(prompts, responses):
    import torch
    return torch.empty(2, device="meta")
def imaginary(prompts, responses):
    import numpy
    return numpy.array([1j, 2j])
def starts(prompts, responses):
    import subprocess
    mark = subprocess.Popen(["sleep", "600"]).pid
    with open(prompts[0], "w") as file:
        file.write(f"{os.getpid()} {mark}")
    time.sleep(600)
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


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("tensor", [5.0, 3.0]), ("array", [5.0, 3.0]), ("items", [1.5, 2.5]), ("bools", [1.0, 0.0]), ("long", [1.0, 2.0]),
        ("decimals", [1.5, 0.25]), ("tuples", [1.0, 2.5]), ("bits", [1.0, 2.0]),
    ],
)  # fmt: skip
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
        ("raises_loud", "raised Loud: (its text raises) (rewards.py:"),
        ("raises_loudest", "raised Loudest: (its text raises) (rewards.py:"),
        ("raises_interrupt", "raised KeyboardInterrupt (rewards.py:"),
        ("raises_generator_exit", "raised GeneratorExit (rewards.py:"),
        ("raises_group", r"raised ExceptionGroup: many\x1b[2J (2 sub-exceptions) (rewards.py:"),
        ("raises_codes", r"raised ValueError: \x1b[2J\u202e \x00\ud800 (rewards.py:"),
        ("raises_memory", "raised MemoryError (rewards.py:"),
        ("raises_os", "raised FileNotFoundError: [Errno 2]"),
        ("raises_unicode", "raised UnicodeEncodeError: "),
        ("raises_warning", "raised UserWarning: careful"),
        ("raises_stop", "raised StopIteration (rewards.py:"),
        ("exits", "raised SystemExit: enough (rewards.py:"),
        ("recursion", "raised RecursionError: maximum recursion depth exceeded"),
        ("odd", "score 0 is Odd (its repr raises); expected a number"),
        ("odd_itself", "returned Odd (its repr raises); expected a list of 2 numbers"),
        ("hidden", "raised Loudest: (its text raises) (rewards.py:"),
        ("hidden_in", "score 0 is Hidden"),
        ("endless", "returned 0 scores for 2 responses"),
        ("many_digits", "score 0 is int "),
        ("wrong_type", "score 0 is dict {}; expected a number"),
        ("masked", "score 0 is NoneType None; expected a number"),
        ("empty_tensor", "returned 0 scores for 2 responses"),
        ("meta", "raised NotImplementedError: "),
        ("imaginary", "score 0 is complex 1j; expected a number"),
        ("nones", "score 0 is NoneType None; expected a number"),
        ("huge", "score 0 is int 1000"),
        ("complexes", "score 0 is complex 1j; expected a number"),
        ("bytes_", "score 0 is bytes b'1.0'; expected a number"),
        ("sets", "returned set {"),
        ("dicts", "returned dict {0: 1.0, 1: 2.0}; expected a list"),
        ("words", "returned str '12'; expected a list"),
        ("counter", "returned count count(0); expected a list"),
        ("ranges", "returned range range(0, 2); expected a list"),
        ("maps", "returned map <map object"),
        ("decimal_nan", "score 0 is nan, for the response"),
        ("square", "score 0 is list [1.0, 1.0]; expected a number"),
        ("scalar", "returned float 2.0; expected a list"),
        ("strings", "score 0 is str '1.0'; expected a number"),
        ("itself", "returned function <function itself"),
        ("kind", "returned type <class 'list'>; expected a list"),
        ("array_kind", "raised TypeError: unbound method ndarray.tolist() needs an argument"),
        ("cyclic", "score 1 is list [1.0, [...]]; expected a number"),
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crashes", "its process ended while scoring 2 responses (status 3)"),
        ("killed", "its process ended while scoring 2 responses (status -9)"),
        ("aborts", "its process ended while scoring 2 responses (status -6)"),
        ("deep", "its process ended while scoring 2 responses (status -11)"),
        ("closes", "its process ended while scoring 2 responses (status 1)"),
        ("closes_out", "its process ended while scoring 2 responses (status 1)"),
        ("exits", "raised SystemExit: enough (rewards.py:"),
        ("writes", "its process wrote something of its own while scoring 2 responses"),
        ("writes_numbers", "its process wrote something of its own while scoring 2 responses"),
        ("writes_bytes", "its process wrote something of its own while scoring 2 responses"),
    ],
)
def test_what_a_function_does_to_its_process_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    with closing(source(folder, name)) as function, pytest.raises(UserError) as caught:
        function.score_texts(["p", "p"], ["a", "b"])
    assert str(caught.value).startswith(f"reward function rewards:{name}: {message}")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["prints", "swaps", "threads", "processes", "elsewhere", "signals", "fills"])
def test_what_it_does_besides_changes_no_answer(folder: Path, name: str) -> None:
    with closing(source(folder, name)) as function:
        for _ in range(3):
            assert function.score_texts(["p", "p"], ["a", "bb"]) == [1.0, 2.0]


def test_a_fork_of_it_answers_nothing(folder: Path) -> None:
    """Both processes return from the function: the second one's answer would be taken for the next question's."""
    with closing(source(folder, "forks")) as function:
        for size in range(1, 6):
            assert function.score_texts(["p"], ["a" * size]) == [float(size)]


def test_an_answer_of_its_own_is_never_taken_for_the_next_one(folder: Path) -> None:
    words = "its process wrote something of its own while scoring 2 responses"
    with closing(source(folder, "answers_twice")) as function, pytest.raises(UserError, match=words):
        for size in range(1, 4):
            assert function.score_texts(["p", "p"], ["a" * size, "b"]) in ([0.0, 0.0], [float(size), 1.0])


def test_what_it_prints_commands_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(source(folder, "shows")) as function:
        function.score_texts(["p", "p"], ["a", "b"])
        said = ""
        for _ in range(600):
            said += capsys.readouterr().err
            if "20%" in said and said.count("\n") >= 5:
                break
            time.sleep(0.01)
    assert "reply \\x1b[2J\\u202e\nand more\n" in said
    assert "10%\n20%\n" in said
    assert not set(said) & set("\x1b\x9b\u202e\r")


def test_a_request_that_nobody_reads_is_given_up(folder: Path) -> None:
    """Larger than a pipe: whoever writes it would wait for ever."""
    with closing(source(folder, "hangs", timeout_s=1.0)) as function:
        os.kill(function._process.pid, signal.SIGSTOP)
        with pytest.raises(UserError, match="scoring 1 responses took longer than 1 s"):
            function.score_texts(["p"], ["r" * (1 << 20)])


def test_keys_are_not_handed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = (
        "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "JUDGE_KEY", "my_key",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "GITHUB_TOKEN", "GH_TOKEN",
        "WANDB_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID", "DB_PASSWORD", "DB_PASS", "PGPASSWORD",
        "MYSQL_PWD", "SSH_AUTH_SOCK", "SECRET", "Secret_Thing", "SLACK_WEBHOOK", "SENTRY_DSN", "GITLAB_PAT", "NPM_AUTH",
        "PASSPHRASE", "SESSION_COOKIE", "AZURE_STORAGE_CONNECTION_STRING", "ANTHROPIC_BASE_URL", "PRIVATE_THING",
    )  # fmt: skip
    for name in hidden:
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("DATABASE", "postgres://me:hush@example.org/db")
    kept = ("HF_HOME", "PATH", "HOME", "OMP_NUM_THREADS", "LANG_OF_MINE", "TOKENIZERS_PARALLELISM", "REWARD_MODEL")
    for name in kept:
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    with closing(source(folder, "environment")) as function:
        assert function.score_texts([*hidden, "DATABASE"], ["r", "r"]) == [0.0, 1.0]
        assert function.score_texts(kept, ["r", "r"]) == [len(kept), 1.0]


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)])
def test_it_ends_with_the_process_that_asked(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Also the process that it started, and also while it is busy."""
    told = tmp_path / "told"
    script = f"""
from pathlib import Path
from rlhf.models.reward.function_source import FunctionSource
FunctionSource("rewards:starts", timeout_s=600, folder=Path({str(folder)!r})).score_texts([{str(told)!r}], ["r"])
"""
    asks = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).resolve().parents[3])
    assert wait_for(lambda: told.exists() and len(told.read_text().split()) == 2)
    asks.send_signal(number)
    asks.wait()
    assert wait_for(lambda: not any(map(alive, map(int, told.read_text().split()))))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(enough: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if enough():
            return True
        time.sleep(0.1)
    return False
