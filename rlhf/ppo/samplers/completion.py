"""One completion: what is asked of the server, and whether its answer is what was asked for."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.core.errors import UserError
from rlhf.models.policy.settings import Sampling
from rlhf.ppo.samplers.client import KEY

_MARK = "token_id:"  # before the ids, where vLLM is asked to give tokens as ids
_ROUNDING = 1e-3  # nats that a logprob may be above 0: low precision


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled response."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # nats
    ended: bool


def request(
    model: str, prompt: Sequence[int], sampling: Sampling, *, seed: int, end_ids: Sequence[int]
) -> dict[str, object]:
    """Make the body of a request for one response: plain sampling at the temperature, ids in and ids out.

    Everything that shapes the distribution is said, so that no default of a server or of a model's folder enters.
    """
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": seed,
        "n": 1,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "ignore_eos": True,  # what ends a reply is said here, and not by a config
        "stop_token_ids": list(end_ids),
        "logprobs": 0,  # of the sampled token alone
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": False,
    }


def seed_of(numbers: bytes) -> int:
    """Make a seed of a row's random numbers: rows that differ have seeds that differ."""
    return int.from_bytes(hashlib.sha256(numbers).digest()[:7], "big")


def read(answer: dict[str, Any], asked: dict[str, object], *, end_ids: Sequence[int], vocabulary: int) -> Completion:
    """Check an answer against its request.

    Raises:
        UserError: it is of another model or prompt, has no ids or logprobs, holds a token after the end, or stops
            before the end for no reason that was given to it.
    """
    try:
        (choice,) = answer["choices"]
        ids, prompt = choice["token_ids"], choice["prompt_token_ids"]
        tokens, logprobs = choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"]
        model = answer["model"]
    except (KeyError, TypeError, ValueError):
        raise _unfit("has no ids or logprobs; vLLM 0.11 or newer gives both") from None
    if model != asked["model"]:
        raise _unfit(f"is by {model!r}, and {asked['model']!r} was asked for")
    if prompt != asked["prompt"]:
        raise _unfit("is to another prompt than was sent (cut, or with tokens put before it)")
    _check_ids(ids, vocabulary)
    if tokens != [f"{_MARK}{token}" for token in ids] or len(logprobs) != len(ids):
        raise _unfit("has logprobs of other tokens than it sampled")
    if not all(isinstance(each, int | float) and math.isfinite(each) and each <= _ROUNDING for each in logprobs):
        raise _unfit("has logprobs that are none: not finite, or above 0")
    return Completion(tuple(ids), tuple(map(float, logprobs)), _ended(ids, int(str(asked["max_tokens"])), end_ids))


def _check_ids(ids: Any, vocabulary: int) -> None:
    whole = isinstance(ids, list) and ids and all(isinstance(each, int) and not isinstance(each, bool) for each in ids)
    if not whole or not all(0 <= each < vocabulary for each in ids):
        raise _unfit(f"holds no tokens, or ids outside of the vocabulary of {vocabulary}")


def _ended(ids: Sequence[int], longest: int, end_ids: Sequence[int]) -> bool:
    ends = [number for number, token in enumerate(ids) if token in end_ids]
    if len(ids) > longest or (ends and ends[0] != len(ids) - 1):
        raise _unfit("goes on after its end token, or past the longest response")
    if not ends and len(ids) < longest:
        raise _unfit(
            f"stops after {len(ids)} of {longest} tokens without an end token: is its --max-model-len too small?"
        )
    return bool(ends)


def _unfit(what: str) -> UserError:
    return UserError(f"{KEY}: the server's answer {what}")
