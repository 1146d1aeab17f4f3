"""Compare the policies on prompts that none of them was trained on."""

import re
from collections.abc import Iterator

from rlhf.report.content import Block, Points, Section, Table, Text
from rlhf.report.draw import Labels, Series, ranges
from rlhf.report.inputs import Inputs
from rlhf.report.wording import HALF, NAMES, REWARDS, Numbers, referee_is_none

POLICIES = ("base", "sft", "ppo")
MEASURES = REWARDS | {
    "rating": "Elo rating, SFT 1,000",
    "length": "length, tokens",
    "entropy": "entropy, nats a token",
    "ended": "share that ends",
    "distinct1": "distinct words, share",
    "distinct2": "distinct word pairs, share",
    "repetition": "repeated trigrams, share",
    "compression": "compression ratio",
    "flattery": "flattering replies, share",
    "sycophancy": "wrong beliefs confirmed, share",
    "empty": "empty replies, share",
    "sycophancy_right": "plain questions answered rightly, share",
    "sycophancy_effect": "what a wrong belief adds to wrong answers",
    "tax_perplexity": "perplexity of held-out documents",
}
RATES = {
    "gold_winrate": "gold reward",
    "referee_winrate": "referee",
    "people_winrate": "people",
    "judge_winrate": "language-model judge",
    "rm_winrate": "reward model",
    "gold_lc_winrate": "gold reward, length controlled",
    "referee_lc_winrate": "referee, length controlled",
    "rm_lc_winrate": "reward model, length controlled",
}
WAYS = {"": "", "ood_": "out of distribution"}


def evaluation(run: Inputs) -> Section:
    """Report each measure for each policy, win rates, and prompts from outside the distribution."""
    n = run.numbers
    if "eval_prompts" not in n:
        return Section("evaluation", "Evaluation", [Text("The policies were not evaluated.")])
    blocks: list[Block] = [Text(text) for text in _evaluation_texts(n, run.resolved["evaluate"]["split"])]
    if moves := list(_moves(n)):
        blocks += [Text("From SFT to PPO:"), Points(moves)]
    blocks += [Text(text) for text in _more_texts(n)]
    blocks += _reward_figure(n)
    blocks += _rate_figure(n)
    for prefix, way in WAYS.items():
        if rows := _measures(n, prefix):
            where = f" on {n.show(f'eval_{prefix}prompts')} prompts {way or 'held out from training'}"
            blocks.append(Table(("measure", *(NAMES[p] for p in POLICIES)), rows, f"Policies{where}", short=not prefix))
    return Section("evaluation", "Evaluation", blocks)


def _evaluation_texts(n: Numbers, split: str) -> Iterator[str]:
    yield (
        f"Each policy replies to the same {n.show('eval_prompts')} prompts of the {split} split, with one sampled "
        "response each. In brackets are 95 % intervals over prompts; differences are paired."
    )
    for role, name in (("reward model", "eval_reward_by"), ("referee", "eval_referee_by")):
        if name in n:
            yield f"The {role} here is the function `{n[name]}`; its scores are in its own units."


def _moves(n: Numbers) -> Iterator[str]:
    for measure, what in (
        ("gold", "gold reward"),
        ("referee", "referee's score"),
        ("reward", "reward-model score"),
        ("length", "length in tokens"),
        ("sycophancy", "share of wrong beliefs confirmed"),
        ("flattery", "share of flattering replies"),
    ):
        if f"eval_{measure}_gain" in n:
            yield f"the {what} {n.moved(f'eval_{measure}_gain')}: {_signed(n, f'eval_{measure}_gain')}"


def _more_texts(n: Numbers) -> Iterator[str]:
    if "eval_kl" in n:
        exact = f" (summed over the vocabulary on a subset: {n.span('eval_kl_exact')})" if "eval_kl_exact" in n else ""
        scale = f"; the base model is {n.show('eval_kl_base')} away" if "eval_kl_base" in n else ""
        yield f"The KL of PPO to SFT is {n.span('eval_kl')} nats a response{exact}{scale}."
    for rate, what in RATES.items():
        if f"eval_{rate}" in n and "_lc_" not in rate:
            other = (("at equal lengths", f"eval_{rate.replace('_winrate', '_lc_winrate')}"),
                     ("out of distribution", f"eval_ood_{rate}"))  # fmt: skip
            more = "".join(f"; {where} {n.span(name)}" for where, name in other if name in n)
            who = what if what == "people" else f"the {what}"
            none = rate == "referee_winrate" and referee_is_none(n)
            by = f"{who}, which does not beat length and decides nothing" if none else who
            yield f"By {by}, PPO {n.wins(f'eval_{rate}')} against SFT: {n.span(f'eval_{rate}')}{more}."
    yield from _tax(n)


def _tax(n: Numbers) -> Iterator[str]:
    """Report the alignment tax: how much worse PPO is at what the base model was trained for."""
    taxed = sorted(name for name in n.values if name.startswith("eval_tax_") and name.endswith("_gain") and name in n)
    for name in taxed:
        what = name.removeprefix("eval_tax_").removesuffix("_gain")
        if what == "perplexity":
            yield (
                f"The perplexity of {n.show('eval_tax_documents')} held-out documents {n.moved(name)} from SFT to PPO: "
                f"{_signed(n, name)}; the base model's is {n.span('eval_tax_perplexity_base')}."
            )
        elif not what.endswith("_nats"):
            yield f"Accuracy on the benchmark `{what}` {n.moved(name)} from SFT to PPO: {_signed(n, name)}."


def _signed(n: Numbers, name: str) -> str:
    text = n.span(name)
    return text if text.startswith("-") else f"+{text}"


def _measures(n: Numbers, prefix: str) -> list[tuple[str, ...]]:
    """Return a row for each `eval_<prefix><measure>_<policy>` that was measured, known measures first."""
    names = "|".join(POLICIES)
    found = {
        match[1]: None
        for name in n.values
        if (match := re.fullmatch(rf"eval_{prefix}(.+)_({names})", name))
        and name in n
        and not (not prefix and match[1].startswith("ood_"))
        and match[1] != "kl"
        and "winrate" not in match[1]
    }
    ordered = [name for name in MEASURES if name in found] + sorted(set(found) - set(MEASURES))
    return [
        (
            MEASURES.get(name, name.replace("_", " ")),
            *(n.span(f"eval_{prefix}{name}_{policy}", 0 if name == "rating" else 2) for policy in POLICIES),
        )
        for name in ordered
    ]


def _reward_figure(n: Numbers) -> list[Block]:
    series = []
    for measure in REWARDS:
        there = [
            (row, f"eval_{measure}_{policy}") for row, policy in enumerate(POLICIES) if f"eval_{measure}_{policy}" in n
        ]
        if there:
            values = [float(n[name]) for _, name in there]
            ends = [n.interval(name) or (float(n[name]), float(n[name])) for _, name in there]
            series.append(
                Series(MEASURES[measure], values, [row for row, _ in there], [e[0] for e in ends], [e[1] for e in ends])
            )
    caption = (
        "Rewards by policy on held-out prompts. Gold is in the task's units, the others in SFT standard deviations"
    )
    labels = Labels("rewards", "mean reward, 95 % interval", "", caption)
    return [ranges([NAMES[p] for p in POLICIES], series, labels)] if series else []


def _rate_figure(n: Numbers) -> list[Block]:
    names = [rate for rate in RATES if f"eval_{rate}" in n]
    series = []
    for prefix, label in (("", "held-out prompts"), ("ood_", "out of distribution")):
        there = [(row, f"eval_{prefix}{rate}") for row, rate in enumerate(names) if f"eval_{prefix}{rate}" in n]
        if there:
            ends = [n.interval(name) or (float(n[name]), float(n[name])) for _, name in there]
            values = [float(n[name]) for _, name in there]
            series.append(Series(label, values, [row for row, _ in there], [e[0] for e in ends], [e[1] for e in ends]))
    labels = Labels(
        "winrates",
        "win rate of PPO over SFT, ties half, 95 % interval",
        "",
        "Win rates by who compares; the line is no difference",
    )
    return [ranges([RATES[rate] for rate in names], series, labels, line=HALF)] if series else []
