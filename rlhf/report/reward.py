"""Report the reward model: accuracy, calibration, slices, and what it has learnt."""

from collections.abc import Iterator
from typing import Any

from rlhf.core.stats import wilson
from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.draw import Labels, Series, lines, ranges
from rlhf.report.inputs import Inputs
from rlhf.report.loss_curves import losses
from rlhf.report.wording import HALF, NO_REFEREE, Numbers, percent, referee_is_none, show

SLICES = "reward_accuracy_"  # prefix of the metrics by slice
FEATURES = 6  # correlations in the Markdown
WORDS = 8  # shown of each side


def reward(run: Inputs) -> Section:
    """Report accuracy beside baseline and ceiling, calibration, slices, and what the model goes by."""
    n = run.numbers
    if "reward_accuracy" not in n:
        return Section("reward", "Reward model", [Text("There is no reward model to report.")])
    blocks: list[Block] = [Text(text) for text in _reward_texts(n)]
    blocks += losses(run, "reward", "Reward model: pairwise loss", "epoch", "loss, nats a pair")
    blocks += _reliability(run)
    blocks += _slices(n)
    blocks += list(_learned(run.learned))
    return Section("reward", "Reward model", blocks)


def _reward_texts(n: Numbers) -> Iterator[str]:
    over = n.moved("reward_over_length") if "reward_over_length" in n else ""
    beats = {"rose": "better than", "fell": "worse than"}.get(over, "not told apart from")
    yield (
        f"On {n.show('reward_test_pairs')} held-out pairs it ranks {n.span('reward_accuracy', 3)} as the annotators "
        f"did. Always taking the longer reply ranks {n.span('reward_length_baseline', 3)}: the model is {beats} that."
    )
    if n.has("reward_share_of_ceiling", "reward_noise_ceiling"):
        yield (
            f"It goes {percent(n['reward_share_of_ceiling'])} of the way from chance to the ceiling of "
            f"{n.show('reward_noise_ceiling', 3)} that the annotators' errors set."
        )
    if "reward_gold_agreement" in n:
        yield f"It orders {n.span('reward_gold_agreement', 3)} of the pairs as the gold reward does."
    yield from _fit_texts(n)


def _fit_texts(n: Numbers) -> Iterator[str]:
    if n.has("reward_train_accuracy"):
        gap = float(n["reward_train_accuracy"]) - float(n["reward_accuracy"])
        ends = n.interval("reward_accuracy")
        beyond = ends is not None and float(n["reward_train_accuracy"]) > ends[1]
        said = (
            "above the held-out interval: it has learnt some pairs by heart"
            if beyond
            else "within the held-out interval"
        )
        yield f"Accuracy on its training pairs is {n.show('reward_train_accuracy', 3)}, {said} (a gap of {gap:.3f})."
    if n.has("reward_length_r2", "reward_length_partial"):
        yield (
            f"Length explains {percent(n['reward_length_r2'])} of the variance of its scores; with length held fixed "
            f"reward and truth still correlate by {n.span('reward_length_partial')}."
        )
    yield from _referee_texts(n)
    if "reward_ece" in n:
        text = f"Its probabilities are off by {n.show('reward_ece', 3)} on average (expected calibration error)"
        tempered = n.has("reward_ece_tempered", "reward_temperature")
        yield text + (
            f"; divided by a temperature of {n.show('reward_temperature')}, by {n.show('reward_ece_tempered', 3)}."
            if tempered
            else "."
        )


def _referee_texts(n: Numbers) -> Iterator[str]:
    if "reward_referee_accuracy" not in n:
        return
    what = "a second reward model"
    if "reward_referee_encoder" in n:
        what = f"a head on a frozen sentence encoder ({n['reward_referee_encoder']})"
    yield (
        f"The referee, {what} on prompts that this one never saw, which PPO never uses, ranks "
        f"{n.span('reward_referee_accuracy', 3)}."
    )
    if "reward_referee_over_length" in n:
        yield (
            "Over always taking the longer reply, on the same pairs, that is "
            f"{n.span('reward_referee_over_length', 3)}."
        )
    if referee_is_none(n):
        yield NO_REFEREE
    for side in ("prompts", "replies"):
        if n.number(f"reward_referee_{side}_cut"):
            kept = "the end" if side == "prompts" else "the start"
            yield f"Of {n.show(f'reward_referee_{side}_cut')} {side} that are too long for the encoder it reads {kept}."


def _reliability(run: Inputs) -> list[Block]:
    rows = run.curve("reward_calibration", "confidence", "accuracy", "count")
    if not rows:
        return []
    found = [wilson(min(row["accuracy"] * row["count"], row["count"]), int(row["count"])) for row in rows]
    series = Series(
        "held-out pairs",
        [row["confidence"] for row in rows],
        [row["accuracy"] for row in rows],
        [one.low or 0.0 for one in found],
        [one.high or 0.0 for one in found],
        joined=False,
    )
    far = sum(not (one.low or 0) <= row["confidence"] <= (one.high or 1) for one, row in zip(found, rows, strict=True))
    caption = (
        f"Reliability, with 95 % intervals: {far} of {len(rows)} bins are further from the diagonal than chance allows"
    )
    return [
        lines(
            [series],
            Labels("reliability", "predicted probability of the preferred reply", "share ranked so", caption),
            diagonal=True,
        )
    ]


def _slices(n: Numbers) -> list[Block]:
    names = sorted(name for name in n.values if name.startswith(SLICES) and f"{name}_low" in n.values and name in n)
    if not names:
        return []
    ends = [n.interval(name) or (float(n[name]), float(n[name])) for name in names]
    labels = [name.removeprefix(SLICES).replace("_", " ") for name in names]
    series = Series(
        "accuracy",
        [float(n[name]) for name in names],
        list(range(len(names))),
        [e[0] for e in ends],
        [e[1] for e in ends],
    )
    low, high = (pick(names, key=lambda name: float(n[name])) for pick in (min, max))
    apart = (n.interval(low) or (0, 1))[1] < (n.interval(high) or (0, 1))[0]
    shown = [f"{name.removeprefix(SLICES).replace('_', ' ')} {n.span(name)}" for name in (high, low)]
    said = "their intervals do not overlap" if apart else "their intervals overlap"
    return [
        ranges(
            labels, [series], Labels("slices", "held-out accuracy, 95 % interval", "", "Accuracy by slice"), line=HALF
        ),
        Text(f"By slice it is best on {shown[0]} and worst on {shown[1]}; {said}."),
    ]


def _learned(found: Any) -> Iterator[Block]:
    """Show features, words and examples from artifacts/reward_learned.json."""
    if not isinstance(found, dict):
        return
    features = [row for row in found.get("features", []) if row.get("reward") is not None]
    if features:
        rows = [
            (
                str(row["feature"]).replace("_", " "),
                _cell(row, "reward"),
                show(row.get("within_pairs")),
                show(row.get("label")),
            )
            for row in features
        ]
        head = ("feature", "with the reward", "within pairs", "with the label")
        yield Table(head, rows[:FEATURES], "What the reward goes with (not what causes it): the strongest correlations")
        if rows[FEATURES:]:
            yield Table(head, rows[FEATURES:], "Weaker correlations", short=False)
    words = found.get("words") or {}
    for side, what in (("up", "highest"), ("down", "lowest")):
        if words.get(side):
            shown = ", ".join(f"`{row['word']}` ({show(row['effect'])})" for row in words[side][:WORDS])
            yield Text(f"Words with which the reward is {what} (mean difference to replies without them): {shown}.")
    for name, what in (("most_rewarded", "Most rewarded replies"), ("least_rewarded", "Least rewarded replies")):
        examples = (found.get("examples") or {}).get(name, [])
        if examples:
            told = [(str(row.get("response", "")).strip(), show(row.get("reward"))) for row in examples]
            yield Table(("reply", "reward"), told, what, short=False)


def _cell(row: dict[str, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return show(row[name]) + (f" ({show(low)} to {show(high)})" if low is not None and high is not None else "")
