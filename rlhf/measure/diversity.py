"""Measure how varied and how repetitive a policy's responses are, without a model."""

import re
import zlib
from collections.abc import Iterator, Sequence

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Split a text into lower-case words; a run of letters, digits, underscores and apostrophes is one, any other
    visible sign is one."""
    return re.findall(r"[\w']+|[^\w\s]", text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Iterator[Ngram]:
    """Yield all runs of n neighbours, in order."""
    return (tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def distinct(responses: Sequence[str], n: int) -> float | None:
    """Divide the number of different n-grams by that of all n-grams, of all responses together (Li et al. 2016,
    distinct-n).

    Falls as the number of responses grows: compare policies on equally many prompts. None where no response has n
    words.
    """
    seen = [gram for response in responses for gram in ngrams(words(response), n)]
    return len(set(seen)) / len(seen) if seen else None


def repetition(response: str, n: int = 3) -> float:
    """Compute the share of a response's n-grams that it has said before: 0 where every one is new, or where it is too
    short."""
    grams = list(ngrams(words(response), n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compression_ratio(responses: Sequence[str]) -> float | None:
    """Divide the bytes of all responses, one a line, by their zlib-compressed bytes: rises as responses become alike
    (Shaib et al. 2024). None where there is no text."""
    data = "\n".join(responses).encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data, 9)) if data.strip() else None
