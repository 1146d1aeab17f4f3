"""Asking a language model behind any OpenAI-compatible endpoint: patient, within its limits and within a budget."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from rlhf.core.errors import UserError
from rlhf.judge.completion import NoCompletion, Reply, error_said, quoted, read_completion
from rlhf.judge.http import Answer, Broken, Connection, Late, Unreachable
from rlhf.judge.keys import headers, read_key
from rlhf.judge.names import JUDGE, Names
from rlhf.judge.params import JudgeParams

Message = dict[str, str]  # {"role": ..., "content": ...}

_NEEDED = "an OpenAI-compatible API that answers there is needed"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0  # the wait doubles from the first to the longest
MOST_IN_A_ROW = 20  # questions with malformed answers: after so many nothing else will come


class RateLimited(UserError):  # noqa: N818 - the endpoint is there, and has no time for us
    """It went on refusing for its rate limit."""


class Malformed(UserError):  # noqa: N818 - what the answer is
    """It answered this question, as often as it was asked, with something that is no chat completion."""


class BudgetSpent(Exception):  # noqa: N818 - a limit that was met, not an error
    """The run may ask nothing more."""


class _Again(Exception):  # noqa: N818 - a request that may go better the next time
    """The reason, how long the endpoint asks us to wait, and what it is when it goes on for too long."""

    def __init__(self, reason: str, wait_s: float | None = None, kind: type[UserError] = UserError) -> None:
        super().__init__(reason)
        self.reason, self.wait_s, self.kind = reason, wait_s, kind


@dataclass(slots=True)
class Clock:
    """Time, which tests replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Endpoint:
    """One endpoint during one run.

    Refused rates (429), failures of the server (5xx), silence, broken connections and answers that are no completion
    are tried again, after the wait that Retry-After asks for, or one that doubles; what cannot get better is told at
    once. The key stands in the request's header and nowhere else.
    """

    params: JudgeParams
    clock: Clock = field(default_factory=Clock)
    names: Names = JUDGE
    logprobs: int = 0  # so many alternatives to each token of an answer are asked for, with their probabilities
    requests: int = 0
    tokens: int = 0
    malformed_in_a_row: int = 0  # questions
    _connection: Connection | None = field(default=None, repr=False)
    _key: str = field(default="", repr=False)
    _next: float = 0.0

    def ask(self, messages: Sequence[Message], *, within_s: float = math.inf) -> Reply:
        """The model's answer. After `within_s` seconds it is not asked for again.

        Raises:
            BudgetSpent: so many requests were made, or tokens used, already; or MOST_IN_A_ROW questions in a row
                had malformed answers.
            Malformed: each answer was no chat completion, or the request is refused for what it holds.
            RateLimited: it refused for its rate limit for `attempts` times, or asks for a wait that is too long.
            UserError: the key is missing or refused, the endpoint cannot be reached or does not know the model, or it
                went on failing for `attempts` times: one line each.
        """
        started = self.clock.now()
        for attempt in range(1, self.params.attempts + 1):
            spent = self.requests >= self.params.budget_requests or self.tokens >= self.params.budget_tokens
            if spent or self.malformed_in_a_row >= MOST_IN_A_ROW:
                raise BudgetSpent
            self._keep_rate()
            self.requests += 1
            try:
                reply = self._request(messages)
            except Malformed:
                self.malformed_in_a_row += 1
                raise
            except _Again as again:
                if attempt == self.params.attempts or self.clock.now() - started >= within_s:
                    self.malformed_in_a_row += again.kind is Malformed
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise again.kind(
                        self._line(f"{again.reason}, tried {times}; {_NEEDED}{self.names.without}")
                    ) from None
                self._wait(again, attempt)
                continue
            self.malformed_in_a_row = 0
            self.tokens += reply.tokens
            return reply
        raise AssertionError("attempts is at least 1")

    def _request(self, messages: Sequence[Message]) -> Reply:
        connection = self._connection or self._connect()
        question: dict[str, object] = {
            "model": self.params.model,
            "messages": [{name: encodable(text) for name, text in message.items()} for message in messages],
            "temperature": self.params.temperature,
            "max_tokens": self.params.max_tokens,
        }
        if self.logprobs:
            question |= {"logprobs": True, "top_logprobs": self.logprobs}
        try:
            answer = connection.post(json.dumps(question).encode(), timeout_s=self.params.timeout_s)
        except Late:
            raise _Again(f"no answer within {self.params.timeout_s:g} s (timeout_s)") from None
        except Unreachable as error:
            raise _Again(f"cannot be reached: {quoted(str(error), self._key)}") from None
        except Broken as error:
            raise _Again(f"the answer {quoted(str(error), self._key)}", kind=Malformed) from None
        if not 200 <= answer.status < 300:
            raise _status(answer, self.params, self._key, self.names)
        try:
            return read_completion(answer.body, self._key)
        except NoCompletion as error:
            raise _Again(str(error), kind=Malformed) from None

    def _connect(self) -> Connection:
        address = self.params.endpoint.rstrip("/")
        self._key = read_key(self.params.key_env, address, self.names)
        to = f"{address}/chat/completions"
        self._connection = Connection(to, headers(self._key, address, os.environ), self.names)
        return self._connection

    def _keep_rate(self) -> None:
        if self.params.requests_per_minute:
            wait = self._next - self.clock.now()
            if wait > 0:
                self.clock.sleep(wait)
            self._next = self.clock.now() + 60 / self.params.requests_per_minute

    def _wait(self, again: _Again, attempt: int) -> None:
        wait = again.wait_s if again.wait_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
        if again.wait_s is not None and wait > LONGEST_WAIT_S:
            raise again.kind(self._line(f"{again.reason}, and asks to wait {wait:g} s: try again later"))
        self.clock.sleep(min(wait, LONGEST_WAIT_S))

    def _line(self, what: str) -> str:
        return _line(self.params, self.names, what)


def _line(params: JudgeParams, names: Names, what: str, setting: str = "endpoint") -> str:
    return f"{names(setting)}: {params.endpoint}: {what}"


def _status(answer: Answer, params: JudgeParams, key: str, names: Names) -> Exception:
    """What an HTTP status means: to be tried again, or one line."""
    status, wait = answer.status, _retry_after(answer.headers.get("retry-after", ""))
    if 300 <= status < 400:
        where = quoted(_place(answer.headers.get("location", "")), key)
        allowed = (
            "redirects are not followed, since key and texts would go with them: endpoint must be the last address"
        )
        return UserError(_line(params, names, f"redirects to {where} (HTTP {status}); {allowed}"))
    if status in (401, 403):
        held = f"in {params.key_env}" if params.key_env else f"(none was sent: {names('key_env')} is empty)"
        allowed = "key_env must name an environment variable that holds one it accepts"
        return UserError(_line(params, names, f"refuses the key {held} (HTTP {status}); {allowed}", "key_env"))
    if status == 429:
        return _Again(f"refuses for its rate limit (HTTP 429); lower {names('requests_per_minute')}", wait, RateLimited)
    if status in (408, 409) or status >= 500:
        return _Again(f"fails (HTTP {status})", wait)
    if status == 404:
        unknown = f"knows no chat model {params.model!r} at this address (HTTP 404)"
        allowed = "model must be one that it serves, endpoint the address before /chat/completions"
        return UserError(_line(params, names, f"{unknown}; {allowed}", "model"))
    kind = Malformed if status in (400, 413, 422) else UserError  # of this question, as one too long for the model
    return kind(_line(params, names, f"refuses the request (HTTP {status}): {error_said(answer.body, key)}"))


def _place(location: str) -> str:
    """Where a redirect leads, without what an address may hold besides."""
    try:
        target = urlsplit(location)
        return f"{target.scheme}://{target.hostname}" if target.hostname else target.path
    except ValueError:
        return "no address"


def _retry_after(value: str) -> float | None:
    """Seconds of the Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def encodable(text: str) -> str:
    """Put the replacement sign for halves of surrogate pairs, which no other program takes."""
    return text.encode("utf-8", "replace").decode()
