"""Compare annotators who labelled the same responses: how far they agree, and where they do not."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

from rlhf.core.stats import Interval, mean_interval
from rlhf.prepare.agreement import Unit, cohens_kappa, couples, disagreements, krippendorffs_alpha
from rlhf.prepare.rankings import Ranking, comparison_units
from rlhf.prepare.report import Metrics
from rlhf.prepare.rows import Pair


@dataclass(frozen=True, slots=True)
class Annotators:
    """Metrics `prepare_*` on annotators, and what goes to files. Fewer than two annotators: counts, and no files."""

    metrics: Metrics
    couples: list[dict[str, object]] = field(default_factory=list)  # each two of them: shared comparisons, agreement
    disputed: list[dict[str, object]] = field(default_factory=list)  # comparisons they differ on, most disputed first


def compare_annotators(rankings: Iterable[Ranking]) -> Annotators:
    """Measure agreement over all comparisons that were read, before any filter; those without a named annotator are
    left out.

    A comparison is two responses to a prompt; an annotator puts the first or the second higher, or both equal. The
    values are nominal. `prepare_annotator_agreement` is the mean over comparisons with two labels or more of the share
    of their pairs of labels that are equal. Kappa is defined for exactly two annotators.
    """
    named = [ranking for ranking in rankings if ranking.annotator]
    places, units = comparison_units(named)
    shared = [unit for unit in units if len(unit) > 1]
    names = sorted({ranking.annotator for ranking in named})
    metrics: Metrics = {"prepare_annotators": len(names), "prepare_comparisons_shared": len(shared)}
    metrics |= _agreement(shared, names)
    if len(names) < 2:
        return Annotators(metrics)
    disputed: list[dict[str, object]] = [
        {"prompt": prompt, "first": first, "second": second, "labels": dict(one.labels), "share": one.share}
        for one in disagreements(units)
        for prompt, first, second in [places[one.unit]]
    ]
    found: list[dict[str, object]] = [
        {"first": two.first, "second": two.second, "comparisons": two.units, "kappa": two.kappa}
        | two.agreement.named("agreement")
        for two in couples(units)
    ]
    return Annotators(metrics | {"prepare_comparisons_disputed": len(disputed)}, found, disputed)


def pair_ranking(pair: Pair) -> Ranking:
    """Turn a preference into a ranking of two."""
    return Ranking(pair.prompt, (pair.chosen, pair.rejected), (1.0, 2.0), pair.annotator or "")


def _agreement(shared: list[Unit], names: list[str]) -> Metrics:
    if not shared:
        empty = ("agreement", "agreement_low", "agreement_high", "kappa", "alpha")
        return {f"prepare_annotator_{name}": None for name in empty} | {"prepare_comparisons_disputed": 0}
    both = [list(unit.values()) for unit in shared]
    shares = [sum(a == b for a, b in pairs) / len(pairs) for pairs in (list(combinations(u, 2)) for u in both)]
    two = [(unit[names[0]], unit[names[1]]) for unit in shared] if len(names) == 2 else []
    return {
        **_share(mean_interval(shares)).named("prepare_annotator_agreement"),
        "prepare_annotator_kappa": cohens_kappa([a for a, _ in two], [b for _, b in two]) if two else None,
        "prepare_annotator_alpha": krippendorffs_alpha(shared),
    }


def _share(found: Interval) -> Interval:
    """Keep the ends of a share's interval between 0 and 1: Student's t knows no such ends."""
    ends = [None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high)]
    return Interval(found.mean, *ends)
