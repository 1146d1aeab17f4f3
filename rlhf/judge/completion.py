"""Read a chat completion strictly: whatever else comes as an answer is malformed."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from rlhf.core.secrets import redacted
from rlhf.core.text import printable
from rlhf.judge.keys import repeats

SHOWN = 80  # characters of what came instead
PLACES = 16  # tokens of an answer whose alternatives are kept
LOOSE = 0.01  # by so much may probabilities that were rounded on their way exceed 1


class NoCompletion(Exception):  # noqa: N818 - what the answer is
    """The answer is no chat completion; what it is."""


Place = tuple[str, tuple[tuple[str, float], ...]]  # a token of an answer, and what might have stood in its place


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, the tokens that question and answer took, and where the endpoint gives them the natural
    logarithms of the probabilities of each token's alternatives."""

    text: str
    tokens: int
    places: tuple[Place, ...] = ()


def read_completion(body: bytes, key: str) -> Reply:
    """Read the first choice's text; a missing text (null) is an empty one. Tokens that are no count are none.

    Raises:
        NoCompletion: what came instead, without the key.
    """
    value = strict_json(body, key)
    if isinstance(value, dict) and "choices" not in value and "error" in value:
        raise NoCompletion(f"answers with an error: {quoted(value['error'], key)}")
    try:
        content = value["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise NoCompletion(f"answers with something that is no chat completion: {quoted(value, key)}") from None
    text = "" if content is None else content
    if not isinstance(text, str):
        raise NoCompletion(f"answers with something that is no text: {quoted(content, key)}")
    if not _is_unicode(text):
        raise NoCompletion("answers with half of a surrogate pair")
    if repeats(text, key):  # it would be kept in the cache
        raise NoCompletion("answers with the key that it was given")
    used = value["usage"].get("total_tokens") if isinstance(value.get("usage"), dict) else 0
    tokens = used if isinstance(used, int) and not isinstance(used, bool) and used > 0 else 0
    return Reply(text, tokens, read_places(value["choices"][0].get("logprobs"), key))


def read_places(logprobs: object, key: str = "") -> tuple[Place, ...]:
    """Read the first PLACES tokens' alternatives, in the form of chat completions (`content`, each with `token` and
    `top_logprobs`); none where this is anything else, is no probabilities, or repeats the key."""
    try:
        found = tuple(_place(one) for one in logprobs["content"][:PLACES])  # type: ignore[index]
    except (KeyError, IndexError, TypeError, ValueError):
        return ()
    return () if repeats(" ".join(token for _, top in found for token, _ in top), key) else found


def _place(one: Any) -> Place:
    top = dict(_alternative(other) for other in one["top_logprobs"])
    token, logprob = _alternative(one)
    top.setdefault(token, logprob)
    if sum(map(math.exp, top.values())) > 1 + LOOSE:
        raise ValueError
    return token, tuple(sorted(top.items(), key=lambda item: -item[1]))


def _alternative(one: Any) -> tuple[str, float]:
    token, logprob = one["token"], one["logprob"]
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        raise TypeError
    if len(token) > SHOWN or not _is_unicode(token) or not logprob <= LOOSE:
        raise ValueError
    return token, min(0.0, float(logprob))


def strict_json(body: bytes, key: str) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, no name twice in an object.

    Raises:
        NoCompletion: it is something else.
    """
    if not body.strip():
        raise NoCompletion("answers with nothing")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NoCompletion("answers with something that is not JSON: it is not UTF-8") from None
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise NoCompletion("answers with something that is not JSON that can be read: nested too deeply") from None
    except ValueError:
        raise NoCompletion(f"answers with something that is not JSON: {quoted(text, key)}") from None


def quoted(value: object, key: str) -> str:
    """Show the beginning of what came, fit for a line and without the key."""
    said = value.get("message", value) if isinstance(value, dict) else value
    try:
        text = said if isinstance(said, str) else json.dumps(said)
    except RecursionError:
        return "(nested too deeply)"
    if repeats(text[: 64 * SHOWN], key):
        return "(withheld, since it repeats the key)"
    return printable(redacted(" ".join(text[: 4 * SHOWN].split())))[:SHOWN]


def error_said(body: bytes, key: str) -> str:
    """Show what an error's body says: its message where it has the usual form."""
    text = body[: 64 * SHOWN].decode("utf-8", "replace")
    found = re.search(r'"message"\s*:\s*("(?:[^"\\]|\\.)*")', text)
    try:
        return quoted(json.loads(found[1]) if found else text, key)
    except ValueError:
        return quoted(text, key)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
