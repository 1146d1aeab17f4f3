"""Asking a language model behind any OpenAI-compatible endpoint: patient, within its limits and within a budget."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from rlhf.core.errors import UserError
from rlhf.evaluate.judge.params import JudgeParams

if TYPE_CHECKING:
    from openai import APIStatusError

Message = dict[str, str]  # {"role": ..., "content": ...}

_NEEDED = "an OpenAI-compatible API that answers there is needed (evaluate.judge.prompts 0: no judge)"
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0  # the wait doubles from the first to the longest


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, and the tokens that question and answer took."""

    text: str
    tokens: int


class RateLimited(UserError):  # noqa: N818 - the endpoint is there, and has no time for us
    """It went on refusing for its rate limit."""


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

    Refused rates (429), failures of the server (5xx), silence, broken connections and answers that are no JSON are
    tried again, after the wait that Retry-After asks for, or one that doubles; what cannot get better is told at once.
    """

    params: JudgeParams
    clock: Clock = field(default_factory=Clock)
    requests: int = 0
    tokens: int = 0
    _client: Any = None
    _next: float = 0.0

    def ask(self, messages: Sequence[Message], *, within_s: float = math.inf) -> Reply:
        """The model's answer. After `within_s` seconds it is not asked for again.

        Raises:
            BudgetSpent: so many requests were made, or so many tokens used, already.
            RateLimited: it refused for its rate limit for `attempts` times, or asks for a wait that is too long.
            UserError: the key is missing or refused, the endpoint cannot be reached or does not know the model, or it
                went on failing for `attempts` times: one line each.
        """
        started = self.clock.now()
        for attempt in range(1, self.params.attempts + 1):
            if self.requests >= self.params.budget_requests or self.tokens >= self.params.budget_tokens:
                raise BudgetSpent
            self._keep_rate()
            self.requests += 1
            try:
                reply = self._request(messages)
            except _Again as again:
                if attempt == self.params.attempts or self.clock.now() - started >= within_s:
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise again.kind(_line(self.params, f"{again.reason}, tried {times}; {_NEEDED}")) from None
                self._wait(again, attempt)
                continue
            self.tokens += reply.tokens
            return reply
        raise AssertionError("attempts is at least 1")

    def _request(self, messages: Sequence[Message]) -> Reply:
        import openai

        params = self.params
        if self._client is None:
            key = read_key(params)
            address = params.endpoint.rstrip("/")
            self._client = openai.OpenAI(base_url=address, api_key=key, max_retries=0, timeout=params.timeout_s)
        try:
            answer = self._client.chat.completions.create(
                model=params.model,
                messages=list(messages),
                temperature=params.temperature,
                max_tokens=params.max_tokens,
            )
        except openai.APITimeoutError:
            raise _Again(f"no answer within {params.timeout_s:g} s (timeout_s)") from None
        except openai.APIStatusError as error:
            raise _status(error, params) from None
        except openai.APIConnectionError as error:
            raise _Again(f"cannot be reached: {error.__cause__ or error}") from None
        except ValueError:  # the body is not JSON, whatever its header says
            raise _Again("answers with something that is not JSON") from None
        return _reply(answer)

    def _keep_rate(self) -> None:
        if self.params.requests_per_minute:
            wait = self._next - self.clock.now()
            if wait > 0:
                self.clock.sleep(wait)
            self._next = self.clock.now() + 60 / self.params.requests_per_minute

    def _wait(self, again: _Again, attempt: int) -> None:
        wait = again.wait_s if again.wait_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
        if again.wait_s is not None and wait > LONGEST_WAIT_S:
            raise again.kind(_line(self.params, f"{again.reason}, and asks to wait {wait:g} s: try again later"))
        self.clock.sleep(min(wait, LONGEST_WAIT_S))


def read_key(params: JudgeParams) -> str:
    """The key that the environment holds. Raises UserError where one is named and is not there."""
    if not params.key_env:
        return "none"  # the client insists on one
    key = os.environ.get(params.key_env, "").strip()
    if not key:
        raise UserError(_line(params, f"the environment variable {params.key_env} holds no key", "key_env"))
    return key


def _line(params: JudgeParams, what: str, key: str = "endpoint") -> str:
    return f"evaluate.judge.{key}: {params.endpoint}: {what}"


def _status(error: "APIStatusError", params: JudgeParams) -> Exception:
    """What an HTTP status means: to be tried again, or one line. Bodies of 401 and 403 may repeat the key."""
    status = error.status_code
    if status in (401, 403):
        held = f"in {params.key_env}" if params.key_env else "(none was sent: evaluate.judge.key_env is empty)"
        allowed = "key_env must name an environment variable that holds one it accepts"
        return UserError(_line(params, f"refuses the key {held} (HTTP {status}); {allowed}", "key_env"))
    if status == 429:
        reason = "refuses for its rate limit (HTTP 429); lower evaluate.judge.requests_per_minute"
        return _Again(reason, _retry_after(error), RateLimited)
    if status in (408, 409) or status >= 500:
        return _Again(f"fails (HTTP {status})", _retry_after(error))
    if status == 404:
        unknown = f"knows no chat model {params.model!r} at this address (HTTP 404)"
        allowed = "model must be one that it serves, endpoint the address before /chat/completions"
        return UserError(_line(params, f"{unknown}; {allowed}", "model"))
    said = " ".join(str(error.message).split())[:200]
    return UserError(_line(params, f"refuses the request (HTTP {status}): {said}"))


def _retry_after(error: "APIStatusError") -> float | None:
    """Seconds of the Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _reply(answer: Any) -> Reply:
    """The text of a chat completion. The client hands on whatever JSON came, so its shape is looked at here."""
    try:
        message = answer.choices[0].message
        text = message.content if message.content is not None else ""
        used = answer.usage.total_tokens if getattr(answer, "usage", None) else 0
    except (AttributeError, IndexError, TypeError):
        raise _Again(f"answers with something that is no chat completion: {answer!r:.80}") from None
    if not isinstance(text, str):
        raise _Again(f"answers with something that is no text: {text!r:.80}")
    return Reply(text, used if isinstance(used, int) and used > 0 else 0)
