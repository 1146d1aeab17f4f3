"""A judge that cannot answer is found before any model is loaded; one that can is tried out once and counted."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.evaluate import inputs
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.run import evaluate
from rlhf.judge import client
from tests.evaluate.conftest import World, params
from tests.judge_server import SILENCE, Answer, JudgeServer, completion, status

LIMITED = status(429, retry_after="0")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    for name in ("RLHF_JUDGE_CACHE", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def judged(url: str, **changes: Any) -> EvaluateParams:
    judge = {"prompts": 3, "endpoint": url, "model": "m", "attempts": 3, "timeout_s": 120.0, "key_env": ""}
    few: dict[str, object] = {"prompts": 3, "ood_prompts": 0, "exact_kl_prompts": 0, "probes": 0, "samples": 0}
    return params(**few, judge=params().judge.model_dump() | judge | changes)


def run(at: Layout, settings: EvaluateParams) -> dict[str, object]:
    threads = RuntimeParams(
        device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0
    )
    return evaluate(at, settings, Runtime.start(threads, seed=0)).metrics


def closed() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def refused(world: World, monkeypatch: pytest.MonkeyPatch, settings: EvaluateParams) -> str:
    """The line of a run whose models could not even be loaded."""
    monkeypatch.setattr(inputs, "load_panel", None)
    with pytest.raises(UserError) as caught:
        run(world(), settings)
    line = str(caught.value)
    assert "\n" not in line
    assert settings.judge.endpoint in line
    return line


def test_nobody_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(world, monkeypatch, judged(closed()))
    assert line.startswith("evaluate.judge.endpoint: http://127.0.0.1:")
    assert "cannot be reached: " in line
    assert "Connection refused, tried 3 times; an OpenAI-compatible API that answers there is needed" in line


def test_a_wrong_key(world: World, monkeypatch: pytest.MonkeyPatch, server: JudgeServer) -> None:
    server.key = "right"
    monkeypatch.setenv("JUDGE_KEY", "wrong")
    line = refused(world, monkeypatch, judged(server.url, key_env="JUDGE_KEY"))
    assert line.startswith("evaluate.judge.key_env: ")
    assert "refuses the key in JUDGE_KEY (HTTP 401); key_env must name" in line
    assert len(server.asked) == 1


PAGE = Answer(body=b"<!doctype html><p>Log in</p>", kind="text/html")


USELESS: list[tuple[Answer, str, int]] = [
    (status(404), "model: {url}: knows no chat model 'm' at this address (HTTP 404); model must be one", 1),
    (status(400, "max_tokens is too large"), "endpoint: {url}: refuses the request (HTTP 400): ", 1),
    (PAGE, "endpoint: {url}: answers with something that is not JSON: <!doctype html><p>Log in</p>, tried 3 times", 3),
    (status(503), "endpoint: {url}: fails (HTTP 503), tried 3 times", 3),
]


@pytest.mark.parametrize("case", range(len(USELESS)))
def test_an_endpoint_of_no_use(world: World, monkeypatch: pytest.MonkeyPatch, server: JudgeServer, case: int) -> None:
    answer, words, asked = USELESS[case]
    server.script = [answer] * 9
    line = refused(world, monkeypatch, judged(server.url))
    assert line.startswith("evaluate.judge." + words.format(url=server.url))
    assert len(server.asked) == asked


def test_silence_is_listened_to_once(world: World, monkeypatch: pytest.MonkeyPatch, server: JudgeServer) -> None:
    """`attempts` silences of a minute each would be the long wait that the trial is there to save."""
    server.script = [SILENCE] * 9
    line = refused(world, monkeypatch, judged(server.url, timeout_s=0.3, attempts=20))
    assert "no answer within 0.3 s (timeout_s), tried once; " in line
    server.heard(1)
    assert len(server.asked) == 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_rate_limit_is_no_failure(world: World, server: JudgeServer, times: int) -> None:
    server.script = [LIMITED] * times
    found = run(world(), judged(server.url))
    assert found["eval_judge_prompts"] == found["eval_judge_judged"]
    assert isinstance(found["eval_judge_winrate"], float)


def test_a_wait_of_an_hour_is_told_after_the_sampling(world: World, server: JudgeServer) -> None:
    server.script = [status(429, retry_after="3600")] * 2
    with pytest.raises(UserError, match="asks to wait 3600 s: try again later"):
        run(world(), judged(server.url))
    assert len(server.asked) == 2


def test_the_trial_counts_against_the_budget(
    world: World, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(world(), judged(server.url, budget_requests=5))
    assert len(server.asked) == 5
    questions = 2 * (int(str(found["eval_judge_prompts"])) - int(str(found["eval_judge_identical"])))
    assert found["eval_judge_unasked"] == questions - 4
    server.asked.clear()
    server.script = [completion("{}", tokens=10**6)]  # the trial alone is dearer than the budget
    assert run(world(), judged(server.url, model="dear"))["eval_judge_unasked"] == questions
    said = capsys.readouterr().err
    assert f"of {questions} questions (malformed answers), and {questions} were not asked\n" in said
    assert len(server.asked) == 1


def test_the_trial_is_anew_in_each_run_until_all_is_answered(world: World, server: JudgeServer) -> None:
    at = world()
    run(at, judged(server.url, budget_requests=3))
    assert len(server.asked) == 3
    found = run(at, judged(server.url))
    questions = len(server.asked) - 2  # a trial in each run
    assert (found["eval_judge_unasked"], questions % 2) == (0, 0)
    assert run(at, judged(server.url)) == found
    assert len(server.asked) == questions + 2


def test_a_run_that_was_judged_to_the_end_needs_no_network(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = world()
    with JudgeServer() as server:
        settings = judged(server.url)
        found = run(at, settings)
    assert run(at, settings) == found
    monkeypatch.setattr(inputs, "load_panel", None)
    for changed in ({"prompts": 2}, {"model": "another"}):  # other questions: the endpoint is needed again
        with pytest.raises(UserError, match="cannot be reached"):
            run(at, judged(settings.judge.endpoint, **changed))
    with pytest.raises(UserError, match="cannot be reached"):
        run(world(policy_seed=8), settings)
