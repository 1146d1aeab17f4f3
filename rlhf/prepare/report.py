"""Report on the data: rows read and kept, and the shape of the preferences."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rlhf.prepare.lengths import Lengths
from rlhf.prepare.row_counts import CHANGES, FILTERS, Ledger
from rlhf.prepare.rows import Pair
from rlhf.prepare.splits import SPLITS, canonical

Metrics = dict[str, float | int | None]


def data_report(ledger: Ledger, splits: Mapping[str, Sequence[Pair]], lengths: Sequence[Lengths]) -> Metrics:
    """Compute the metrics `prepare_*`. `lengths` are those of all kept pairs, in any order."""
    pairs = [pair for name in SPLITS for pair in splits[name]]
    prompts = {name: {canonical(pair.prompt) for pair in splits[name]} for name in SPLITS}
    report: Metrics = {
        "prepare_rows_read": ledger.read,
        "prepare_rows_kept": ledger.kept,
        "prepare_rows_dropped": ledger.dropped.total(),
        "prepare_rows_set_aside": len(ledger.set_aside),
        "prepare_prompts": len(set.union(*prompts.values())),
        "prepare_prompts_on_two_sides": _shared(prompts),
        "prepare_contradictions": _contradictions(pairs),
        "prepare_longer_chosen": _longer([pair for pair in pairs if pair.target > 0.5]),
        "prepare_several_turns": _share(pair.turns > 1 for pair in pairs),
    }
    report |= {f"prepare_dropped_{name}": ledger.dropped[name] for name in FILTERS}
    report |= {f"prepare_{name}": ledger.changed[name] for name in CHANGES}
    report |= {f"prepare_set_aside_{rule}": count for rule, count in ledger.by_rule().items()}
    report |= {f"prepare_pairs_{name}": len(splits[name]) for name in SPLITS}
    report |= {f"prepare_prompts_{name}": len(prompts[name]) for name in SPLITS}
    report |= _quantiles("tokens_chosen", [one.prompt + one.chosen for one in lengths])
    report |= _quantiles("tokens_rejected", [one.prompt + one.rejected for one in lengths])
    report |= _quantiles("tokens_prompt", [one.prompt for one in lengths])
    report |= _quantiles("words_chosen", [len(pair.chosen.split()) for pair in pairs])
    report |= _quantiles("words_rejected", [len(pair.rejected.split()) for pair in pairs])
    return report


def _longer(pairs: Sequence[Pair]) -> float:
    """Share of pairs whose chosen reply has more characters; an equal length is not longer."""
    return _share(len(pair.chosen) > len(pair.rejected) for pair in pairs)


def _contradictions(pairs: Sequence[Pair]) -> int:
    """Pairs that some other row has the other way round."""
    labels = {(pair.prompt, pair.chosen, pair.rejected) for pair in pairs}
    return sum((prompt, rejected, chosen) in labels for prompt, chosen, rejected in labels)


def _shared(prompts: Mapping[str, set[str]]) -> int:
    """Prompts found in more than one split: leakage. The split makes it 0; this counts what is really there."""
    return sum(map(len, prompts.values())) - len(set.union(*prompts.values()))


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean(np.fromiter(flags, dtype=float)))


def _quantiles(name: str, values: Sequence[int]) -> Metrics:
    p50, p90 = np.percentile(values, [50, 90])
    return {f"prepare_{name}_p50": float(p50), f"prepare_{name}_p90": float(p90)}
