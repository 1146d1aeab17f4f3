"""Open the report: the overall verdict, headline numbers, the over-optimisation curve, and what to do next."""

from collections.abc import Iterator

from rlhf.report.content import Block, Fact, Facts, Notice, Section, Status, Text
from rlhf.report.fallback_notice import stopped
from rlhf.report.inputs import Inputs
from rlhf.report.next_steps import next_steps
from rlhf.report.overoptimisation import course, curve
from rlhf.report.verdicts import STATES, failed_on, read_findings, states
from rlhf.report.wording import Numbers, referee_is_none, show

TITLE = "At a glance"
REWARDS = {  # measure of evaluate -> label of its gain
    "gold": "gold reward, which PPO never sees", "referee": "referee's reward", "reward": "reward that PPO optimises",
}  # fmt: skip
JUDGES = {  # who compares PPO's replies with SFT's, the most trustworthy first
    "gold_winrate": "by gold reward", "people_winrate": "by people", "judge_winrate": "by a language-model judge",
    "referee_winrate": "by the referee", "rm_winrate": "by the reward model itself",
}  # fmt: skip


def opening(run: Inputs) -> Section:
    """Answer the reader's first questions; everything after it is detail."""
    n = run.numbers
    blocks: list[Block] = [_status(run)]
    if said := stopped(n):
        blocks.append(Notice(said))
    facts = list(_facts(n))
    blocks += [Facts(facts)] if facts else [Text("Nothing was measured yet.")]
    blocks += curve(run)
    blocks += [Text(text) for text in course(run)]
    return Section("summary", TITLE, [*blocks, next_steps(run)])


def _status(run: Inputs) -> Status:
    """The overall verdict and whatever is not sound, from the metrics of diagnose."""
    n = run.numbers
    if "diagnose_overall" not in n:
        return Status("unknown", "Not examined for failure modes: the stage `diagnose` has not run.", [])
    found, why = states(n), {finding.name: finding.why for finding in read_findings(run.diagnosis)}
    counts = ", ".join(f"{count} {state}" for state in STATES if (count := list(found.values()).count(state)))
    items = [
        f"`{name}` {state}" + (f": {why[name]}" if name in why else "")
        for name, state in found.items()
        if state in ("failed", "suspect")
    ]
    if failed := failed_on(run):
        items.append(f"The pipeline fails for {', '.join(failed)} (`evaluate.fail_on`).")
    return Status(str(n["diagnose_overall"]), f"Overall verdict: {n['diagnose_overall']} ({counts}).", items)


def _facts(n: Numbers) -> Iterator[Fact]:
    none = referee_is_none(n)
    measures = ("gold", "reward") if "eval_gold_gain" in n else ("reward",) if none else ("referee", "reward")
    for measure in measures:
        gain = f"eval_{measure}_gain"
        if n.has(gain, f"eval_{measure}_sft", f"eval_{measure}_ppo"):
            sft, ppo = (show(n[f"eval_{measure}_{policy}"]) for policy in ("sft", "ppo"))
            moved = f"{n.moved(gain)}: SFT {sft}, PPO {ppo}"
            yield _fact(n, gain, REWARDS[measure], moved, signed=True)
    asked = [rate for rate in JUDGES if f"eval_{rate}" in n and not (none and rate == "referee_winrate")]
    for rate in asked[:1]:
        yield _fact(n, f"eval_{rate}", f"win rate over SFT, {JUDGES[rate]}", n.wins(f"eval_{rate}"))
    if "eval_kl" in n:
        yield _fact(n, "eval_kl", "KL to SFT, nats a response", "")
    if "reward_accuracy" in n:
        longer = n.show("reward_length_baseline", 3)
        remark = f"always taking the longer reply: {longer}" if "reward_length_baseline" in n else ""
        yield _fact(n, "reward_accuracy", "reward model, accuracy on held-out pairs", remark, digits=3)


def _fact(n: Numbers, name: str, label: str, remark: str, *, digits: int = 2, signed: bool = False) -> Fact:
    value, _, interval = n.span(name, digits).partition(" (")
    sign = "+" if signed and not value.startswith("-") else ""
    return Fact(label, sign + value, interval.removesuffix(")"), remark)
