"""Show the two rewards over the distance from SFT: the over-optimisation curve."""

from collections.abc import Iterator

from rlhf.report.content import Block, Section, Text
from rlhf.report.draw import Labels, Series, columns, lines
from rlhf.report.inputs import Inputs
from rlhf.report.wording import percent

JUDGES = {"proxy": "proxy: the reward model", "gold": "gold: the truth", "referee": "referee"}
PLOT = "overoptimisation"


def overoptimisation(run: Inputs) -> Section:
    """Gold and proxy reward over the distance from SFT, and while PPO ran."""
    title = "Gold against proxy reward"
    judges = [judge for judge in JUDGES if run.curve(PLOT, "sqrt_kl", judge)]
    if not judges:
        return Section("overoptimisation", title, [Text("The course of PPO was not scored again afterwards.")])
    blocks: list[Block] = [Text(text) for text in _texts(run, judges)]
    for x, labels in (
        (
            "sqrt_kl",
            Labels(
                "overoptimisation", "distance from SFT: √KL, √nats", "mean reward", "Rewards over the distance from SFT"
            ),
        ),
        ("iteration", Labels("overoptimisation-time", "iteration", "mean reward", "The same while PPO ran")),
    ):
        series = [
            Series(JUDGES[judge], *columns(run.curve(PLOT, x, judge), x, judge), joined=x == "iteration")
            for judge in judges
        ]
        blocks.append(lines(series, labels))
    return Section("overoptimisation", title, blocks)


def glance(run: Inputs) -> list[Block]:
    """Draw reward and gold over the distance from SFT, the one figure that the report opens with."""
    judges = [judge for judge in JUDGES if run.curve(PLOT, "sqrt_kl", judge)]
    if not judges:
        return []
    series = [
        Series(JUDGES[judge], *columns(run.curve(PLOT, "sqrt_kl", judge), "sqrt_kl", judge), joined=False)
        for judge in judges
    ]
    caption = "Over-optimisation curve: what the reward model says and what is true, iteration by iteration"
    return [lines(series, Labels("glance", "distance from SFT: √KL, √nats", "mean reward", caption))]


def _texts(run: Inputs, judges: list[str]) -> Iterator[str]:
    n = run.numbers
    yield (
        "Over-optimisation shows where the proxy, which PPO optimises, goes on rising with the distance from SFT "
        "while an "
        "independent judge falls (Gao et al. 2022, arXiv 2210.10760). Each mark is one iteration's logged episodes; "
        "the "
        "distance is the square root of their KL."
    )
    if n.has("eval_proxy_start", "eval_proxy_end"):
        start, end = n.show("eval_proxy_start"), n.show("eval_proxy_end")
        yield f"The proxy went from {start} to {end}. Each number here is a mean over an iteration and its neighbours."
    if "gold" in judges and n.has("eval_gold_peak", "eval_gold_end", "eval_gold_lost"):
        rise = float(n["eval_gold_peak"]) - min(row["gold"] for row in run.curve(PLOT, "gold"))
        share = (
            f", {percent(float(n['eval_gold_lost']) / rise)} of the rise from its lowest iteration" if rise > 0 else ""
        )
        yield (
            f"The gold reward peaked at {n.show('eval_gold_peak')} in iteration "
            f"{n.show('eval_gold_peak_iteration')}, at a "
            f"distance of {n.show('eval_gold_peak_sqrt_kl')}, and ended at {n.show('eval_gold_end')}: "
            f"{n.show('eval_gold_lost')} was lost after the peak{share}. These numbers have no intervals."
        )
        if "diagnose_over_optimisation" in n:
            yield "The verdict on over-optimisation asks this of wider windows along the distance, with their noise."
    elif "referee" in judges:
        yield "There is no gold reward for this task; the referee is the independent judge."
        if n.has("eval_referee_peak", "eval_referee_end", "eval_referee_lost"):
            yield (
                f"It peaked at {n.show('eval_referee_peak')} in iteration {n.show('eval_referee_peak_iteration')} "
                "and ended at "
                f"{n.show('eval_referee_end')}: {n.show('eval_referee_lost')} was lost after the peak."
            )
    elif "gold" not in judges:
        yield "There is no gold reward for this task, and without an independent judge over-optimisation cannot show."
