"""Draw reward and gold over the distance from SFT: the over-optimisation curve."""

from collections.abc import Iterator

from rlhf.report.content import Figure, Section, Text
from rlhf.report.draw import Labels, Series, columns, lines
from rlhf.report.inputs import Inputs
from rlhf.report.wording import Numbers, percent, referee_is_none

PLOT = "overoptimisation"
COLUMNS = {"proxy": "proxy: the reward model", "gold": "gold: the truth", "referee": "referee"}
INDEPENDENT = {"gold": "the gold reward", "referee": "the referee"}  # the most trustworthy first


def overoptimisation(run: Inputs) -> Section:
    """Explain the curve of the opening, and show the same rewards by iteration."""
    title, there = "Gold against proxy reward", _scored(run)
    if not there:
        return Section("overoptimisation", title, [Text("The course of PPO was not scored again afterwards.")])
    labels = Labels("overoptimisation-time", "iteration", "mean reward", "Rewards of the logged episodes by iteration")
    series = [Series(COLUMNS[name], *columns(run.curve(PLOT, "iteration", name), "iteration", name)) for name in there]
    return Section("overoptimisation", title, [*map(Text, _texts(run, there)), lines(series, labels)])


def curve(run: Inputs) -> list[Figure]:
    """Draw the reward model's and the best independent reward over √KL; nothing where the course was not scored."""
    there = _scored(run)
    shown = [name for name in there if name == "proxy"] + [name for name in _independent(run.numbers) if name in there][
        :1
    ]
    if not shown:
        return []
    series = [
        Series(COLUMNS[name], *columns(run.curve(PLOT, "sqrt_kl", name), "sqrt_kl", name), joined=False, trend=True)
        for name in shown
    ]
    caption = (
        "Over-optimisation curve: each mark is one iteration's logged episodes, lines are running means over a fifth "
        "of them"
    )
    return [lines(series, Labels("overoptimisation", "distance from SFT: √KL, √nats", "mean reward", caption))]


def course(run: Inputs) -> Iterator[str]:
    """Say in one sentence where the independent reward peaked and ended while the proxy moved."""
    n = run.numbers
    for name, what in _independent(n).items():
        if n.has(f"eval_{name}_peak", f"eval_{name}_end"):
            where = f" at √KL {n.show(f'eval_{name}_peak_sqrt_kl')}" if f"eval_{name}_peak_sqrt_kl" in n else ""
            proxy = ""
            if n.has("eval_proxy_start", "eval_proxy_end"):
                proxy = (
                    f", while the reward model's score went from {n.show('eval_proxy_start')} to "
                    f"{n.show('eval_proxy_end')}"
                )
            yield (
                f"Along PPO's course {what} peaked at {n.show(f'eval_{name}_peak')}{where} and ended at "
                f"{n.show(f'eval_{name}_end')}{proxy}."
            )
            return


def _independent(n: Numbers) -> dict[str, str]:
    """Name who is independent of the reward model; a referee that does not beat length is nobody."""
    return {name: what for name, what in INDEPENDENT.items() if not (name == "referee" and referee_is_none(n))}


def _scored(run: Inputs) -> list[str]:
    return [name for name in COLUMNS if run.curve(PLOT, "sqrt_kl", name)]


def _texts(run: Inputs, there: list[str]) -> Iterator[str]:
    n = run.numbers
    yield (
        "Over-optimisation shows where the proxy, which PPO optimises, goes on rising with the distance from SFT while "
        "an independent reward falls (Gao et al. 2022, arXiv 2210.10760). The report opens with that curve. The "
        "distance is the square root of the logged episodes' KL to SFT."
    )
    independent = next((name for name in _independent(n) if name in there), None)
    if independent != "gold":
        yield "There is no gold reward for this task" + (
            "; the referee is independent of the reward model."
            if independent
            else ", and without an independent reward over-optimisation cannot show."
        )
    if independent and n.has(*(f"eval_{independent}_{part}" for part in ("peak", "peak_iteration", "lost"))):
        yield (
            f"{INDEPENDENT[independent].capitalize()} peaked in iteration "
            f"{n.show(f'eval_{independent}_peak_iteration')}; {n.show(f'eval_{independent}_lost')} was lost after the "
            f"peak{_share_lost(run, n, independent)}. Each number is a mean over an iteration and its neighbours, "
            "without an interval."
        )
        if "diagnose_over_optimisation" in n:
            yield "The verdict on over-optimisation takes wider windows along the distance, and their noise."


def _share_lost(run: Inputs, n: Numbers, name: str) -> str:
    rise = float(n[f"eval_{name}_peak"]) - min((row[name] for row in run.curve(PLOT, name)), default=0.0)
    lost = float(n[f"eval_{name}_lost"])
    return f", {percent(lost / rise)} of the rise from its lowest iteration" if rise > 0 else ""
