"""Render the confusion tables: what was planted against what the verdicts said."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rlhf.diagnose.params import Thresholds, VerdictName
from studies.planted.plants import KINDS, SCALED, Set, planned
from studies.planted.record import Judged, judge_all, took

VERDICTS: tuple[str, ...] = get_args(VerdictName)


def confusion(judged: Sequence[Judged]) -> str:
    """Render a row a kind, a column a verdict: in how many runs it failed (and was suspect); the right one in bold."""
    lines = [
        "| planted | runs | " + " | ".join(VERDICTS) + " |",
        "|---|---|" + "---|" * len(VERDICTS),
    ]
    for kind in KINDS.values():
        own = [one for one in judged if one.run["kind"] == kind.name]
        cells = [_cell([one.states[verdict] for one in own], right=verdict == kind.right) for verdict in VERDICTS]
        if own:
            lines.append(f"| {kind.name} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def summary(judged: Sequence[Judged]) -> dict[str, int]:
    """Count failures planted, and named by their right verdict as failed or at least as suspect; sound runs, and those
    that some verdict calls failed or suspect."""
    planted = [one.named for one in judged if one.right is not None]
    sound = [one.named for one in judged if one.right is None]
    return {
        "planted": len(planted),
        "named_failed": planted.count("failed"),
        "named_suspect": planted.count("suspect"),
        "missed": len(planted) - planted.count("failed") - planted.count("suspect"),
        "sound": len(sound),
        "accused_failed": sound.count("failed"),
        "accused_suspect": sound.count("suspect"),
    }


def said(judged: Sequence[Judged]) -> str:
    """Say the summary in a sentence, then list the runs that were not judged as they should be."""
    n = summary(judged)
    lines = [
        f"Of {n['planted']} planted failures {n['named_failed']} are named failed by their right verdict, "
        f"{n['named_suspect']} suspect, {n['missed']} missed. Of {n['sound']} sound runs {n['accused_failed']} are "
        f"called failed, {n['accused_suspect']} suspect."
    ]
    for one in judged:
        if one.named != ("failed" if one.right else "sound"):
            others = [f"{verdict} {state}" for verdict, state in one.states.items() if state in ("failed", "suspect")]
            lines.append(f"- {one.run['name']}: {one.right or 'sound'} is {one.named} ({', '.join(others) or 'none'})")
    return "\n".join(lines) + "\n"


def page(runs: Sequence[Mapping[str, Any]], limits: Thresholds) -> str:
    """Render planted.md."""
    lines = ["# Verdicts on planted failures", "", "| kind | planted | right verdict |", "|---|---|---|"]
    lines += [f"| {kind.name} | {kind.says} | {kind.right or 'none fails'} |" for kind in KINDS.values()]
    scaled = ", ".join(f"{key} {value}" for key, value in SCALED.items())
    lines += ["", f"All runs: the default pipeline with {scaled}.", ""]
    sets: tuple[Set, Set] = ("judged", "calibration")
    for which in sets:
        own = [run for run in runs if run["set"] == which]
        if not own:
            continue
        seeds = ", ".join(map(str, sorted({run["seed"] for run in own})))
        title = f"{which.capitalize()} set (seeds {seeds}; {len(own)} of {len(list(planned(which)))} runs)"
        for blind in (False, True):
            judged = list(judge_all(own, limits, blind=blind))
            lines += [f"## {title}, {'without' if blind else 'with'} gold", "", confusion(judged), said(judged)]
    lines += ["## Gold reward of PPO (SFT), and whether the plant took", "", _golds(runs)]
    return "\n".join(lines)


def _golds(runs: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| run | set | gold SFT | gold PPO | worse than every sound run of its seed |", "|---|---|---|---|---|"]
    for run in runs:
        found = run["metrics"]
        verdict = "" if run["kind"] == "sound" else {True: "yes", False: "**no**", None: "?"}[took(run, runs)]
        gold = f"{found['eval_gold_ppo']:.2f} ({found['eval_gold_ppo_low']:.2f} to {found['eval_gold_ppo_high']:.2f})"
        lines.append(f"| {run['name']} | {run['set']} | {found['eval_gold_sft']:.2f} | {gold} | {verdict} |")
    return "\n".join(lines) + "\n"


def _cell(states: Sequence[str], *, right: bool) -> str:
    failed, suspect = states.count("failed"), states.count("suspect")
    text = f"{failed}" + (f" (+{suspect})" if suspect else "")
    text = "unknown" if states and set(states) == {"unknown"} else "" if not (failed or suspect or right) else text
    return f"**{text}**" if right else text
