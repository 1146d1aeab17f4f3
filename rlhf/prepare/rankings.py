"""Turn rankings of several responses into preferences between each two of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rlhf.prepare.agreement import Unit
from rlhf.prepare.rows import Prompt


@dataclass(frozen=True, slots=True)
class Ranking:
    """One annotator's order of several responses to a prompt. Rank 1 is the best; equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[float, ...]
    annotator: str

    def __post_init__(self) -> None:
        if len(self.responses) != len(self.ranks) or len(self.responses) < 2:
            raise ValueError(
                f"a ranking needs at least two responses and a rank for each, got {len(self.responses)} and "
                f"{len(self.ranks)}"
            )


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses of one ranking: `chosen` stands above `rejected`."""

    chosen: str
    rejected: str
    weight: float


def preferences(ranking: Ranking) -> list[Preference]:
    """List all pairs of different rank, each with weight 1 / (K choose 2).

    So a ranking of nine counts as much as one of two, and the pairs of one ranking, which are far from independent,
    do not outvote the rest (Ouyang et al. 2022, eq. 1). A tie says nothing of who is better: it gives no pair, and its
    weight is not passed on. Two equal texts are never a pair.
    """
    ranked = list(zip(ranking.ranks, ranking.responses, strict=True))
    weight = 1 / (len(ranked) * (len(ranked) - 1) / 2)
    found = []
    for (rank, response), (other_rank, other) in combinations(ranked, 2):
        if rank != other_rank and response != other:
            chosen, rejected = (response, other) if rank < other_rank else (other, response)
            found.append(Preference(chosen, rejected, weight))
    return found


def ties(ranking: Ranking) -> int:
    """List the pairs of equal rank."""
    return sum(a == b for a, b in combinations(ranking.ranks, 2))


def comparison_units(rankings: Sequence[Ranking]) -> tuple[list[tuple[Prompt, str, str]], list[Unit]]:
    """List every comparison that was made, as (prompt, response, other) and as a unit for `rlhf.prepare.agreement`.

    Labels are "first", "second" or "tie": which of the two responses, in the order of their texts, the annotator put
    higher. Where one annotator ranked the same two twice, the last counts.
    """
    units: defaultdict[tuple[Prompt, str, str], dict[str, str]] = defaultdict(dict)
    for ranking in rankings:
        ranked = sorted(zip(ranking.responses, ranking.ranks, strict=True))
        for (first, rank), (second, other_rank) in combinations(ranked, 2):
            if first != second:
                label = "tie" if rank == other_rank else "first" if rank < other_rank else "second"
                units[ranking.prompt, first, second][ranking.annotator] = label
    return list(units), list(units.values())
