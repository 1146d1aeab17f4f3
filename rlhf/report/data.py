"""Report the data: rows read, dropped and split, lengths, and how reliable the annotators are."""

from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.wording import HALF, Numbers, percent, show


def data(run: Inputs) -> Section:
    """Report what was read, dropped and split."""
    n = run.numbers
    if not n.has("prepare_rows_read", "prepare_rows_kept"):
        return Section("data", "Data", [Text("The data were not measured.")])
    blocks: list[Block] = [Text(text) for text in _data_texts(n)]
    rows = [
        (split, n.show(f"prepare_prompts_{split}"), n.show(f"prepare_pairs_{split}"))
        for split in ("train", "validation", "test", "ood")
        if n.number(f"prepare_prompts_{split}")
    ]
    blocks.append(Table(("split", "prompts", "pairs"), rows, "Splits (ood: prompts from outside the distribution)"))
    rows = [
        (what, n.show(f"prepare_{name}_p50", 0), n.show(f"prepare_{name}_p90", 0))
        for name, what in (
            ("tokens_prompt", "prompt"),
            ("tokens_chosen", "prompt and chosen reply"),
            ("tokens_rejected", "prompt and rejected reply"),
        )
        if f"prepare_{name}_p50" in n
    ]
    blocks.append(Table(("sequence", "median", "90th percentile"), rows, "Lengths in tokens"))
    return Section("data", "Data", blocks)


def _data_texts(n: Numbers) -> list[str]:
    texts = [
        f"{n.show('prepare_rows_read')} rows were read and {n.show('prepare_rows_kept')} kept; "
        f"{n.show('prepare_rows_dropped')} were dropped by filters and {n.show('prepare_rows_set_aside')} set aside as "
        "unreadable or undecided." + _most_dropped(n),
        f"Splits are by prompt: {n.show('prepare_prompts_on_two_sides')} prompts are in more than one. "
        f"{n.show('prepare_contradictions')} pairs also stand the other way round.",
    ]
    if "prepare_longer_chosen" in n:
        share = float(n["prepare_longer_chosen"])
        leaning = "the longer" if share > HALF else "the shorter"
        texts.append(
            f"Annotators chose the longer reply in {percent(share)} of the pairs"
            + (f", so {leaning} reply was more often preferred." if abs(share - HALF) > 0.05 else ", close to half.")
        )
    if "prepare_noise_ceiling" in n:
        texts.append(
            f"Annotators err at a known rate: knowing the truth would rank {n.show('prepare_noise_ceiling', 3)} of the "
            "pairs as they did, and no reward model can be expected to do better."
        )
    return texts


def _most_dropped(n: Numbers) -> str:
    reasons = {
        name: value
        for name, value in n.values.items()
        if name.startswith(("prepare_dropped_", "prepare_set_aside_")) and isinstance(value, int) and value
    }
    if not reasons:
        return ""
    most = max(sorted(reasons), key=lambda name: reasons[name])
    reason = most.removeprefix("prepare_dropped_").removeprefix("prepare_set_aside_").replace("_", " ")
    return f" The most common reason was {reason} ({show(reasons[most])})."
