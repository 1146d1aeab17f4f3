"""Count words of courtesy and of contempt: a judge of politeness that no model and no preference has taught.

Courtesy is thanks, apologies, "please", modal verbs that soften and hedges, which are among the strategies of Danescu-
Niculescu-Mizil et al. 2013 (A Computational Approach to Politeness, table 3), and offers of help; contempt is a list of
insults and of words that belittle. The lists are this project's own.
"""

import re
from collections.abc import Sequence

from rlhf.core.stats import Interval, tied_rate

COURTESY = (
    "thank", "thanks", "thankful", "grateful", "appreciate", "please", "kindly", "sorry", "apologies", "apologise",
    "apologize", "pardon", "excuse", "forgive", "welcome", "pleasure", "pleased", "delighted", "delight", "glad",
    "happy", "honoured", "honored", "assist", "assistance", "help", "offer", "could", "would", "may", "might",
    "perhaps", "possibly", "suggest", "suggestion", "recommend", "believe", "respectfully", "humbly", "gladly",
    "certainly",
)  # fmt: skip
CONTEMPT = (
    "stupid", "dumb", "idiot", "idiots", "idiotic", "moron", "fool", "foolish", "lazy", "lame", "pathetic", "useless",
    "worthless", "ridiculous", "ridiculously", "nonsense", "rubbish", "trash", "garbage", "crap", "crappy", "suck",
    "sucks", "damn", "damned", "hell", "freaking", "bloody", "shut", "duh", "ugh", "obviously", "whatever", "boring",
    "ignorant", "clueless", "annoying", "disgusting", "hate", "loser", "silly", "joke", "seriously", "anyway", "okay",
)  # fmt: skip


def courtesy(text: str) -> int:
    """Count the words of courtesy less those of contempt."""
    words = re.findall(r"[a-z]+", text.lower())
    return sum(word in COURTESY for word in words) - sum(word in CONTEMPT for word in words)


def ahead(first: Sequence[str], second: Sequence[str]) -> tuple[int, int]:
    """Count the pairs whose first reply is the more courteous, and those whose second is; the rest are level.

    Raises:
        ValueError: sequences of different length.
    """
    margins = [courtesy(a) - courtesy(b) for a, b in zip(first, second, strict=True)]
    return sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)


def win_rate(first: Sequence[str], second: Sequence[str]) -> Interval:
    """Compute how often the first of two replies is the more courteous, with a 95 % interval; a tie is a half.

    Raises:
        ValueError: sequences of different length.
    """
    pairs = zip(map(courtesy, first), map(courtesy, second), strict=True)
    return tied_rate([0.5 if a == b else float(a > b) for a, b in pairs])
