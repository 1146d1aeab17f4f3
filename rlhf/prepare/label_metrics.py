"""Measure who answered the project's own questions, how far they agree, and how often they are right."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from rlhf.core.stats import wilson, wins
from rlhf.labels.combine import VALUES, Combined, self_agreement
from rlhf.labels.record import Label
from rlhf.prepare.annotators import Annotators, compare_annotators
from rlhf.prepare.params import LabelKind
from rlhf.prepare.rankings import Ranking
from rlhf.prepare.report import Metrics
from rlhf.prepare.row_counts import FILTERS, Ledger
from rlhf.prepare.rows import Pair
from rlhf.synthetic.gold import gold_reward

KINDS: tuple[str, ...] = get_args(LabelKind)


@dataclass(frozen=True, slots=True)
class Answers:
    """Metrics `prepare_labels_*` of the answers, and their agreement in detail."""

    metrics: Metrics
    annotators: Annotators


def answers_of(
    answers: Sequence[Label],
    combined: Combined,
    left_out: Mapping[str, int],
    prompts: Mapping[str, str],
    *,
    gold: bool,
) -> Answers:
    """Measure the answers that count. Agreement is over first looks that prefer a reply or see a tie, by annotator and
    kind; `gold`: whether the task knows which reply is better; `prompts`: what models read, by what was shown."""
    first = [label for label in answers if label.look == 1]
    told = [label for label in first if label.answer in VALUES]
    metrics: Metrics = {
        "prepare_labels_answers": len(first),
        "prepare_labels_questions": len({label.question.id for label in first}),
        "prepare_labels_tied": sum(one.winner is None for one in combined.preferences),
        "prepare_labels_silent": combined.counts["silent"],
    }
    counts = Counter(label.answer for label in first)
    metrics |= {
        f"prepare_labels_answered_{name.lower()}": counts[name] for name in ("A", "B", "tie", "both_bad", "skip")
    }
    metrics |= {f"prepare_labels_left_out_{rule}": count for rule, count in left_out.items()}
    metrics |= {f"prepare_{name}": value for name, value in self_agreement(answers).items()}  # type: ignore[misc] # numbers
    for kind in KINDS:
        own = [label for label in told if label.kind == kind]
        metrics |= _kind(kind, own, len(told), prompts, gold=gold)
    annotators = compare_annotators(map(_ranking, told))
    renamed = {name.replace("prepare_", "prepare_labels_", 1): value for name, value in annotators.metrics.items()}
    return Answers(metrics | renamed, annotators)


def pair_metrics(pairs: Sequence[Pair], split_sizes: Mapping[str, int], ledger: Ledger) -> Metrics:
    """Measure the pairs that were made of the answers. `prepare_labels_unanimity`: mean over them of the probability of
    the reply that is ahead, 1 where all agree."""
    report: Metrics = {
        "prepare_labels_pairs": ledger.kept,
        "prepare_labels_unanimity": sum(pair.target for pair in pairs) / len(pairs) if pairs else None,
        "prepare_labels_set_aside": len(ledger.set_aside),
    }
    report |= {f"prepare_labels_dropped_{name}": ledger.dropped[name] for name in (*FILTERS, "held_out_tie")}
    return report | {f"prepare_labels_pairs_{name}": size for name, size in split_sizes.items()}


def _kind(kind: str, own: Sequence[Label], total: int, prompts: Mapping[str, str], *, gold: bool) -> Metrics:
    metrics: Metrics = {
        f"prepare_labels_annotators_{kind}": len({label.annotator for label in own}),
        f"prepare_labels_answers_{kind}": len(own),
        f"prepare_labels_share_{kind}": len(own) / total if total else None,
    }
    decided = [label for label in own if label.answer != "tie"]
    if not (gold and decided):
        return metrics
    leads = []
    for label in decided:
        prompt = prompts.get(label.prompt, label.prompt)
        lead = gold_reward(prompt, label.a) - gold_reward(prompt, label.b)
        leads.append(lead if label.answer == "A" else -lead)
    return metrics | wilson(sum(wins(leads)), len(leads)).named(f"prepare_labels_accuracy_{kind}")


def _ranking(label: Label) -> Ranking:
    ranks = {"A": (1.0, 2.0), "B": (2.0, 1.0), "tie": (1.0, 1.0)}[label.answer]
    return Ranking(label.prompt, (label.a, label.b), ranks, f"{label.kind}-{label.annotator}")
