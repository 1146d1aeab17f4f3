"""Split by prompt: all pairs of one prompt fall into one split, by a hash, whatever else is in the data."""

import unicodedata

from rlhf.core.seeding import derive

SPLITS = ("train", "validation", "test")


def split_of(prompt: str, seed: int, *, validation_share: float, test_share: float) -> str:
    """Find the split of a prompt, by a hash of it and the seed.

    Prompts that differ only in case, in white space or in Unicode form count as the same. The split of a prompt does
    not depend on the other rows, so it stays when rows are added.
    """
    point = derive(seed, "split", canonical(prompt)) / 2**63
    if point < test_share:
        return "test"
    return "validation" if point < test_share + validation_share else "train"


def canonical(prompt: str) -> str:
    """Bring a prompt into the form in which prompts are compared."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
