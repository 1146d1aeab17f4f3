"""`make frontier`: measure reward over KL: PPO at several kl_coef, DPO at several beta, best of several n, on one SFT.

    python -m studies.frontier [--kl-coef 0.05 0.1 0.2 0.5 1.0] [--beta 0.2 0.5 1.0 2.0] [--n 2 4 8 16]

Each setting trains in a folder of its own from the artifacts of this project (`dvc repro` first) and is not trained
again where nothing changed; then all are asked the prompts of `evaluate`. On a quiet core about two minutes for each
kl_coef and one for each beta. Writes benchmarks/results/frontier.{json,md,png}.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_json, write_text
from rlhf.core.layout import Layout
from rlhf.core.params import read_resolved, read_section
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.evaluate.params import EvaluateParams
from rlhf.ppo.params import PPOParams
from studies.command import options, run_command, span
from studies.run import PROJECT, Run
from studies.runner import make

KEPT = ("kl", "kl_bound", "reward", "referee", "gold", "rm_winrate", "referee_winrate", "gold_winrate", "length")
Points = dict[str, dict[str, Any]]


def plan(work: Path, kl_coefs: list[float], betas: list[float]) -> dict[str, Run]:
    """Plan the run of each setting, by the setting's name; its adapter is that of `adapter`."""
    found = {}
    for value in kl_coefs:
        changes: dict[str, object] = {"ppo.kl_coef": value}
        found[f"ppo kl_coef={value:g}"] = Run(work / f"ppo-{value:g}", changes, ("ppo",), start=PROJECT)
    for value in betas:
        changes = {"offline.dpo.beta": value, "offline.dpo.run": True}
        found[f"dpo beta={value:g}"] = Run(work / f"dpo-{value:g}", changes, ("offline@dpo",), start=PROJECT)
    return found


def adapter(run: Run) -> Path:
    """The adapter that a run trained."""
    return Layout(run.folder).ppo if run.stages == ("ppo",) else Layout(run.folder).offline("dpo")


def measure(policies: dict[str, Path], sizes: list[int]) -> Points:
    """Ask every policy the prompts of evaluate, with its random numbers."""
    from rlhf.compare.alternatives import best_of_n, measures, of_adapter
    from rlhf.measure.functions import Functions
    from rlhf.measure.panel import load_panel
    from rlhf.measure.params import RefereeParams
    from rlhf.measure.policies import measure_policy
    from rlhf.measure.prompts import SPLIT_PROMPTS, choose_fitting
    from rlhf.models.reward.best_of_n import kl_bound
    from rlhf.models.reward.scoring import ADAPTER
    from rlhf.models.text.prompts import read_prompts

    at = Layout()
    params = read_section(at.resolved, "evaluate", EvaluateParams)
    seed = int(read_resolved(at.resolved)["seed"])
    runtime = Runtime.start(read_section(at.resolved, "runtime", RuntimeParams), seed)
    names = {name: f"point{number}" for number, name in enumerate(policies)}
    ppo, referee = read_section(at.resolved, "ppo", PPOParams), read_section(at.resolved, "referee", RefereeParams)
    functions = Functions.of(ppo.source, ppo.function, ppo.function_path, ppo.function_timeout_s, referee)
    adapters = {names[name]: folder for name, folder in policies.items()}
    panel = load_panel(at, adapters, params, runtime, functions)
    read = read_prompts(at.pairs / f"{params.split}.jsonl")
    prompts = choose_fitting(panel, read, params.prompts, SPLIT_PROMPTS).chosen
    with closing(panel):
        sft = measure_policy(panel, prompts, SPLIT_PROMPTS, ADAPTER)
        found: Points = {"sft": dict(measures(sft, sft, sft.drift.k1, seed))}
        for name, loaded in names.items():
            found[name] = dict(of_adapter(measure_policy(panel, prompts, SPLIT_PROMPTS, loaded), sft, seed))
        for n, (given, kl) in best_of_n(panel, prompts, sizes, sft).items():
            found[f"best_of_n n={n}"] = measures(given, sft, kl, seed) | {"kl_bound": kl_bound(n)}
    ends = ("", "_low", "_high")
    return {
        name: {key + end: numbers[key + end] for key in KEPT for end in ends if key + end in numbers}
        for name, numbers in found.items()
    }


def label(name: str) -> str:
    """Name a point for readers."""
    method, _, setting = name.partition(" ")
    key, _, value = setting.partition("=")
    if method == "best_of_n":
        return f"best of {value}"
    return method.upper() + (f", `{key}` {value}" if setting else "")


def table(points: Points) -> str:
    """Render a table of one policy a row, numbers with 95 % intervals."""
    rows = ["| policy | KL to SFT, nats | KL bound | reward (proxy) | gold reward | gold win rate |", "|---" * 6 + "|"]
    for name, own in sorted(points.items(), key=lambda point: _place(point[0])):
        cells = [span(own, key) for key in ("kl", "kl_bound", "reward", "gold", "gold_winrate")]
        rows.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _place(name: str) -> tuple[int, float]:
    method, _, setting = name.partition(" ")
    return ("sft", "ppo", "dpo", "best_of_n").index(method), float(setting.partition("=")[2] or 0)


def draw(path: Path, points: Points) -> None:
    """Draw proxy and gold reward over sqrt(KL), a line a method, intervals as bars."""
    from matplotlib.figure import Figure

    shown = [key for key in ("reward", "gold") if key in points["sft"]]
    figure = Figure(figsize=(5.2 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    lines: dict[str, list[dict[str, Any]]] = {}
    for name, own in points.items():
        lines.setdefault(name.split(" ")[0], []).append(own)
    styles = {"ppo": ("o", "-"), "dpo": ("s", "--"), "best_of_n": ("^", ":"), "sft": ("x", "")}
    for axis, key in zip(axes, shown, strict=True):
        for method, along in lines.items():
            ordered = sorted(along, key=lambda point: point["kl"])
            x = [max(point["kl"], 0.0) ** 0.5 for point in ordered]
            y = [point[key] for point in ordered]
            bars = [[p[key] - p[f"{key}_low"] for p in ordered], [p[f"{key}_high"] - p[key] for p in ordered]]
            marker, style = styles.get(method, ("d", "-."))
            look = {"linestyle": style or "none", "color": "black", "markerfacecolor": "white"}
            said = "best of n" if method == "best_of_n" else label(method)
            axis.errorbar(x, y, yerr=bars, marker=marker, label=said, capsize=2, **look)
        axis.set(xlabel="sqrt(KL to SFT), sqrt(nats)", ylabel={"reward": "reward model", "gold": "gold reward"}[key])
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = options(__doc__, ".frontier")
    parser.add_argument("--kl-coef", type=float, nargs="*", default=[0.05, 0.1, 0.2, 0.5, 1.0])
    parser.add_argument("--beta", type=float, nargs="*", default=[0.2, 0.5, 1.0, 2.0])
    parser.add_argument("--n", type=int, nargs="+", default=[2, 4, 8, 16])
    given = parser.parse_args()
    runs = plan(given.work, given.kl_coef, given.beta)
    for run in make(runs.values(), given.processes):
        print(f"{run.folder.name}: trained", flush=True)
    points = measure({name: adapter(run) for name, run in runs.items()}, sorted(set(given.n)))
    write_json(given.out / "frontier.json", points)
    write_text(given.out / "frontier.md", table(points))
    draw(given.out / "frontier.png", points)
    print(table(points))


if __name__ == "__main__":
    run_command(main)
