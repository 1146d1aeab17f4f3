"""reports/sweep.md and its figure."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlhf.core.artifacts import write_bytes, write_text
from rlhf.core.errors import UserError
from rlhf.core.text import markdown_code, printable
from rlhf.sweep.read import Experiment
from rlhf.sweep.settings import KL, SHOWN, Setting, Spread, best, comparable, frontier, lacking, measure, settings

UNMEASURED = "finished without a KL or a reward"
_LABELS = {
    KL: "KL to SFT, nats a response",
    "eval_gold_ppo": "gold reward",
    "eval_referee_ppo": "referee",
    "eval_reward_ppo": "reward-model score",
    "eval_gold_winrate": "gold win rate over SFT",
}


def write_sweep(experiments: Sequence[Experiment], folder: Path, budget: float | None) -> None:
    """Write sweep.md and sweep.png into `folder`.

    Raises:
        UserError: no experiment has succeeded, or they share no reward to compare them by.
    """
    found = settings(experiments)
    reward = measure(found)
    if reward is None:
        counts = ", ".join(f"{len(names)} {state}" for state, names in _states(experiments).items()) or "none"
        raise UserError(f"sweep: no finished experiments that can be compared (found: {counts}); `dvc queue status`")
    write_text(folder / "sweep.md", sweep_text(experiments, found, reward, budget))
    write_bytes(folder / "sweep.png", _figure(found, reward, budget))


def sweep_text(experiments: Sequence[Experiment], found: Sequence[Setting], reward: str, budget: float | None) -> str:
    """The report: settings, frontier, best under the budget, and what is not done."""
    states = _states(experiments)
    done = sum(len(one.seeds) for one in found)
    front = frontier(found, reward)
    parts = [
        "# Sweep",
        f"{done} of {len(experiments)} experiments are compared, in {len(found)} settings. A number is the mean over a "
        "setting's seeds ± their standard deviation (none with one seed). A seed varies everything: data, base model, "
        "SFT, reward model and PPO.",
        *_remarks(experiments, found, reward),
        _table(found, front),
        "## Frontier",
        f"Settings that no other beats with as little KL and as much {_LABELS[reward]}: "
        + "; ".join(markdown_code(one.name) for one in front)
        + ".",
        f"![{_LABELS[reward]} over KL, with the frontier](sweep.png)",
        "## Best setting",
        _best(found, reward, budget),
    ]
    rest = {state: names for state, names in states.items() if state != "success"}
    if rest:
        parts += ["## Not counted", "\n".join(f"- {state}: {', '.join(names)}" for state, names in rest.items())]
    return "\n\n".join(parts) + "\n"


def _remarks(experiments: Sequence[Experiment], found: Sequence[Setting], reward: str) -> Iterator[str]:
    """What limits the comparison, a line each."""
    for truer, names in lacking(experiments, reward).items():
        yield f"Compared by {_LABELS[reward]}, since {_LABELS[truer]} is missing in {', '.join(names)}."
    if all(len(one.seeds) == 1 for one in found):
        yield "Every setting has one seed: there is no spread, and differences between settings may be luck."


def _best(found: Sequence[Setting], reward: str, budget: float | None) -> str:
    chosen = best(found, reward, budget)
    limit = "Without a limit on KL" if budget is None else f"Within {budget:g} nats of KL"
    if chosen is None:
        least = min(one.spreads[KL].mean for one in found)
        return f"{limit}: none; the least is {least:.3g}."
    number = _number(chosen.spreads[reward])
    return (
        f"{limit}: {markdown_code(chosen.name)}, {_LABELS[reward]} {number} at a KL of {_number(chosen.spreads[KL])}."
    )


def _table(found: Sequence[Setting], front: Sequence[Setting]) -> str:
    shown = [name for name in SHOWN if all(name in one.spreads for one in found)]
    lines = ["| setting | seeds | " + " | ".join(_LABELS[name] for name in shown) + " | on the frontier |"]
    lines.append("|---" * (len(shown) + 3) + "|")
    for one in found:
        seeds = ", ".join(map(str, one.seeds))
        cells = [_number(one.spreads[name]) for name in shown]
        lines.append(f"| {markdown_code(one.name)} | {seeds} | {' | '.join(cells)} | {'yes' if one in front else ''} |")
    return "\n".join(lines)


def _number(spread: Spread) -> str:
    return f"{spread.mean:.3g}" + ("" if spread.std is None else f" ± {spread.std:.2g}")


def _states(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    states = [(_state(one), one.name) for one in experiments]
    return {state: [name for its, name in states if its == state] for state in sorted({state for state, _ in states})}


def _state(one: Experiment) -> str:
    return UNMEASURED if one.state == "success" and not comparable(one) else one.state


def _label(name: str) -> str:
    """Make a setting's name a label: no formula of TeX, and not hidden for an underscore in front."""
    text = printable(name).replace("\\", "/").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _figure(found: Sequence[Setting], reward: str, budget: float | None) -> bytes:
    """Reward over KL: a point a setting with its spread over seeds, the frontier as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    front = frontier(found, reward)
    for mark, one in zip("osD^v<>pPX*h" * (len(found) // 12 + 1), found, strict=False):
        kl, value = one.spreads[KL], one.spreads[reward]
        axes.errorbar(
            kl.mean, value.mean, xerr=kl.std or 0, yerr=value.std or 0, fmt=mark, color="black", capsize=3,
            markerfacecolor="black" if one in front else "white", label=_label(one.name),
        )  # fmt: skip
    points = [(one.spreads[KL].mean, one.spreads[reward].mean) for one in front]
    axes.plot(*zip(*points, strict=True), color="0.5", linewidth=1, label="frontier (filled)", zorder=0)
    if budget is not None:
        axes.axvline(budget, color="0.5", linestyle=":", label=f"budget, {budget:g} nats")
    axes.set_xlabel(_LABELS[KL])
    axes.set_ylabel(_LABELS[reward])
    axes.legend(fontsize="x-small")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, metadata={"Software": None})
    return image.getvalue()
