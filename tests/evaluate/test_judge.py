"""A judge that is slow, moody, biased, expensive and sometimes says nothing of use; on 127.0.0.1."""

import json
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.judge.cache import Cache
from rlhf.judge.client import BudgetSpent, Clock, Endpoint
from rlhf.judge.pairwise import Choice, Duel, Judged, Judgement, judge, question, read_choice
from rlhf.judge.params import JudgeParams
from tests.judge_server import SILENCE, Answer, JudgeServer, completion, status

KEY = "sk-very-secret"
MESSAGES = question("Why?", "Because.", "No.")
DUELS = [Duel(f"Question {k}?", "yes " * (k % 3 + 1), "no " * 2) for k in range(6)]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "JUDGE_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class FakeClock:
    """Sleeping takes no time, and is written down."""

    def __init__(self) -> None:
        self.time, self.slept = 100.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.append(seconds)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep)


def make(url: str, clock: FakeClock | None = None, **changes: Any) -> Endpoint:
    values = {
        "prompts": 100, "endpoint": url, "model": "judge",
        "key_env": "", "temperature": 0.0, "max_tokens": 20, "timeout_s": 120.0,
        "attempts": 3, "requests_per_minute": 0.0, "budget_requests": 1000, "budget_tokens": 10**6,
    }  # fmt: skip
    params = check(JudgeParams, values | changes, where="params.yaml", key="evaluate.judge")
    return Endpoint(params, (clock or FakeClock()).clock())


def run(endpoint: Endpoint, folder: Path, duels: list[Duel] = DUELS) -> Judged:
    return judge(duels, Cache(folder).asking(endpoint.params, endpoint.ask))


def test_an_honest_judge_in_both_orders(server: JudgeServer, tmp_path: Path) -> None:
    judged = run(make(server.url), tmp_path)
    # "yes " once, twice, three times against "no " twice: shorter (3 to 5), longer (7), longer (11), after stripping
    assert judged.outcomes == [0.0, 1.0, 1.0] * 2
    metrics = judged.metrics("j_")
    assert metrics["j_winrate"] == pytest.approx(4 / 6)
    assert (metrics["j_position"], metrics["j_position_low"], metrics["j_position_high"]) == (0.5, 0.5, 0.5)
    assert metrics["j_consistency"] == 1
    assert (metrics["j_prompts"], metrics["j_judged"], metrics["j_malformed"], metrics["j_unasked"]) == (6, 6, 0, 0)
    assert len(server.asked) == 12
    assert server.asked[0]["path"] == "/v1/chat/completions"
    assert (server.asked[0]["model"], server.asked[0]["temperature"], server.asked[0]["max_tokens"]) == ("judge", 0, 20)


def test_a_judge_that_only_sees_the_position_gives_ties_and_is_found_out(server: JudgeServer, tmp_path: Path) -> None:
    server.opinion = lambda a, b: '{"verdict": "A"}'
    judged = run(make(server.url), tmp_path)
    assert judged.outcomes == [0.5] * 6
    metrics = judged.metrics("j_")
    assert (metrics["j_winrate"], metrics["j_position"], metrics["j_consistency"]) == (0.5, 1.0, 0.0)


def test_nothing_is_asked_twice(server: JudgeServer, tmp_path: Path) -> None:
    first = run(make(server.url), tmp_path)
    asked = len(server.asked)
    again = make(server.url, budget_requests=1, requests_per_minute=7.0, timeout_s=1.0)
    assert run(again, tmp_path) == first
    assert (len(server.asked), again.requests) == (asked, 0)
    run(make(server.url, model="another"), tmp_path)
    assert len(server.asked) == 2 * asked
    run(make(server.url), tmp_path, [Duel("Question 0 ?", "yes", "no")])
    assert len(server.asked) == 2 * asked + 2


def test_a_damaged_cache_file_is_asked_anew(server: JudgeServer, tmp_path: Path) -> None:
    first = run(make(server.url), tmp_path)
    for k, path in enumerate(sorted(tmp_path.rglob("*.json"))[:3]):
        path.write_text(("{", "[]", '{"text": "x"}')[k])
    endpoint = make(server.url)
    assert run(endpoint, tmp_path) == first
    assert endpoint.requests == 3


def test_the_key_is_in_no_file_and_in_no_message(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    monkeypatch.setenv("JUDGE_KEY", KEY)
    run(make(server.url, key_env="JUDGE_KEY"), tmp_path)
    assert not [path for path in tmp_path.rglob("*.json") if KEY in path.read_text()]
    monkeypatch.setenv("JUDGE_KEY", KEY + "-old")
    with pytest.raises(UserError) as caught:
        make(server.url, key_env="JUDGE_KEY").ask(MESSAGES)
    assert str(caught.value).startswith(
        f"evaluate.judge.key_env: {server.url}: refuses the key in JUDGE_KEY (HTTP 401)"
    )
    assert KEY not in str(caught.value)


def test_a_key_that_is_named_but_not_there(server: JudgeServer) -> None:
    with pytest.raises(UserError, match=r"environment variable JUDGE_KEY holds no key"):
        make(server.url, key_env="JUDGE_KEY").ask(MESSAGES)
    assert server.asked == []


def test_a_key_that_is_needed_but_not_named(server: JudgeServer) -> None:
    server.key = KEY
    with pytest.raises(UserError, match=r"judge.key_env is empty\) \(HTTP 401\)"):
        make(server.url).ask(MESSAGES)


def test_it_waits_as_long_as_it_is_asked_to_and_else_twice_as_long_each_time(server: JudgeServer) -> None:
    clock = FakeClock()
    server.script = [status(429, retry_after="7"), status(500), status(503)]
    assert make(server.url, clock, attempts=4).ask(MESSAGES).text == '{"verdict": "A"}'
    assert clock.slept == [7.0, 1.0, 2.0]
    assert len(server.asked) == 4


def test_a_date_to_wait_for(server: JudgeServer) -> None:
    clock = FakeClock()
    server.script = [status(429, retry_after=formatdate(time.time() + 55, usegmt=True))]
    make(server.url, clock).ask(MESSAGES)
    (slept,) = clock.slept
    assert 5 < slept <= 55  # what the machine took in between is no longer waited for


def test_a_wait_of_an_hour_is_not_waited_for(server: JudgeServer) -> None:
    clock = FakeClock()
    server.script = [status(429, retry_after="3600")]
    with pytest.raises(UserError, match="asks to wait 3600 s: try again later"):
        make(server.url, clock).ask(MESSAGES)
    assert clock.slept == []


LIES = [
    (status(429), "refuses for its rate limit (HTTP 429); lower evaluate.judge.requests_per_minute, tried 3 times"),
    (status(500), "fails (HTTP 500), tried 3 times"),
    (Answer(body=b"<html>busy</html>"), "answers with something that is not JSON: <html>busy</html>, tried 3 times"),
    (Answer(body=b"<html>busy</html>", kind="text/html"), "that is not JSON: <html>busy</html>, tried 3 times"),
    (Answer(body=b"[1, 2]"), "answers with something that is no chat completion: [1, 2], tried 3 times"),
    (Answer(body=b'{"choices": []}'), 'answers with something that is no chat completion: {"choices": []}'),
    (Answer(body=b"\xff\xfe"), "answers with something that is not JSON: it is not UTF-8, tried 3 times"),
    (completion(["no", "text"]), 'answers with something that is no text: ["no", "text"], tried 3 times'),
]


@pytest.mark.parametrize(("answer", "message"), LIES)
def test_what_goes_on_failing_is_one_line(server: JudgeServer, answer: Answer, message: str) -> None:
    server.script = [answer] * 3
    with pytest.raises(UserError) as caught:
        make(server.url).ask(MESSAGES)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"evaluate.judge.endpoint: {server.url}")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 3


@pytest.mark.parametrize(("answer", "_message"), LIES)
def test_what_fails_once_is_forgotten(server: JudgeServer, answer: Answer, _message: str) -> None:
    server.script = [answer]
    assert make(server.url).ask(MESSAGES).text == '{"verdict": "A"}'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(404), "knows no chat model 'judge' at this address (HTTP 404)"),
        (status(403), "refuses the key"),
        (status(400, "max_tokens\nis too large"), "refuses the request (HTTP 400): "),
    ],
)
def test_what_cannot_get_better_is_told_at_once(server: JudgeServer, answer: Answer, message: str) -> None:
    server.script = [answer] * 3
    with pytest.raises(UserError) as caught:
        make(server.url).ask(MESSAGES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_slow(server: JudgeServer) -> None:
    server.script = [SILENCE] * 2
    with pytest.raises(UserError, match=r"no answer within 0.2 s \(timeout_s\), tried 2 times"):
        make(server.url, timeout_s=0.2, attempts=2).ask(MESSAGES)


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=rf"127.0.0.1:{port}/v1: cannot be reached: .*, tried 3 times"):
        make(f"http://127.0.0.1:{port}/v1").ask(MESSAGES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": ""}, r"params.yaml: evaluate.judge: endpoint must be the address .*\(found ''\)"),
        ({"endpoint": "judge.example"}, r"endpoint must be the address .*\(found 'judge.example'\)"),
        ({"endpoint": "ftp://x"}, r"endpoint must be the address"),
        ({"model": ""}, r"params.yaml: evaluate.judge: model must name a model"),
    ],
)
def test_an_endpoint_that_is_none(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make(**{"url": changes.pop("endpoint", "http://127.0.0.1:1/v1"), **changes})
    assert "\n" not in str(caught.value)


def test_no_judge_needs_no_endpoint() -> None:
    assert make("", prompts=0, model="").params.prompts == 0


def test_the_rate_is_kept(server: JudgeServer) -> None:
    clock = FakeClock()
    endpoint = make(server.url, clock, requests_per_minute=30.0)
    for _ in range(4):
        endpoint.ask(MESSAGES)
    assert clock.slept == [2.0, 2.0, 2.0]


def test_the_budget_counts_every_request_and_stops_before_it_is_passed(server: JudgeServer, tmp_path: Path) -> None:
    server.script = [status(500)]
    judged = run(make(server.url, budget_requests=6), tmp_path)
    assert len(server.asked) == 6  # one failed, five answered: two whole duels and half of the third
    assert judged.outcomes == [0.0, 1.0, None, None, None, None]
    assert (judged.unasked, judged.malformed) == (7, 0)
    rest = run(make(server.url, budget_requests=100), tmp_path)
    assert len(server.asked) == 6 + 7
    assert rest.outcomes == [0.0, 1.0, 1.0] * 2


def test_tokens_are_a_budget_too(server: JudgeServer, tmp_path: Path) -> None:
    endpoint = make(server.url, budget_tokens=35)  # ten an answer
    judged = run(endpoint, tmp_path)
    assert (endpoint.tokens, endpoint.requests, judged.unasked) == (40, 4, 8)
    with pytest.raises(BudgetSpent):
        endpoint.ask(MESSAGES)
    server.script = [completion("x", tokens=None)]
    assert make(server.url).ask(MESSAGES).tokens == 0


def test_answers_that_are_no_verdict_are_counted_and_left_out(server: JudgeServer, tmp_path: Path) -> None:
    server.script = [completion(text) for text in ("I like both.", None, '{"verdict": "C"}', '{"verdict": "B"}')]
    endpoint = make(server.url)
    judged = run(endpoint, tmp_path)
    assert judged.malformed == 3
    assert judged.outcomes == [None, None, 1.0, 0.0, 1.0, 1.0]
    assert judged.metrics("j_")["j_judged"] == 4
    assert (
        run(make(server.url), tmp_path) == judged
    )  # they are in the cache as well: a judge is not asked until it obeys
    assert len(server.asked) == 12


def test_no_verdict_at_all_has_no_rate(server: JudgeServer, tmp_path: Path) -> None:
    server.opinion = lambda a, b: "hm"
    metrics = run(make(server.url), tmp_path).metrics("j_")
    assert (metrics["j_winrate"], metrics["j_position"], metrics["j_malformed"]) == (None, None, 12)


def test_equal_responses_are_ties_without_asking(server: JudgeServer, tmp_path: Path) -> None:
    judged = run(make(server.url), tmp_path, [Duel("Why?", " same", " same")])
    assert (judged.outcomes, judged.identical, server.asked) == ([0.5], 1, [])


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"verdict": "A"}', "A"),
        ('```json\n{"verdict": "b"}\n```', "B"),
        ('Let me think.\n{"verdict": "TIE", "reason": "both fine"}', "tie"),
        ('{"verdict": "A"} or rather {"verdict": "B"}', None),
        ('{"verdict": "A"} yes {"verdict": "A"}', "A"),
        ("A", None),
        ('{"verdict": null}', None),
        ('{"verdict": ["A"]}', None),
        ("{'verdict': 'A'}", None),
        ("", None),
        ("{" * 1000, None),
    ],
)
def test_verdicts_are_read_strictly(answer: str, verdict: Choice | None) -> None:
    assert read_choice(answer) == verdict


@pytest.mark.parametrize(
    ("as_a", "as_b", "outcome", "consistent"),
    [
        ("A", "B", 1.0, True), ("B", "A", 0.0, True), ("tie", "tie", 0.5, True), ("A", "A", 0.5, False),
        ("A", "tie", 0.5, False), ("tie", "A", 0.5, False), ("B", None, None, False), (None, "A", None, False),
    ],
)  # fmt: skip
def test_a_win_needs_both_orders(
    as_a: Choice | None, as_b: Choice | None, outcome: float | None, consistent: bool
) -> None:
    assert Judgement(as_a, as_b).outcome == outcome
    assert Judgement(as_a, as_b).consistent is consistent


def test_the_question_holds_both_responses_and_the_policies_names_nowhere() -> None:
    text = json.dumps(question("Why?", " yes", " no"))
    assert "[Response A]\\nyes" in text
    assert "[Response B]\\nno" in text
    assert not any(name in text for name in ("ppo", "sft", "base"))
