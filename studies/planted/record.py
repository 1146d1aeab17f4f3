"""Keep of each run the numbers that verdicts look at, so that anybody can judge them again in a second."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.curves import read_rows
from rlhf.core.layout import Layout
from rlhf.diagnose.all_verdicts import all_verdicts
from rlhf.diagnose.evidence import STAGES, Evidence, evidence_of
from rlhf.diagnose.params import Thresholds
from rlhf.diagnose.verdict import State
from studies.planted.plants import KINDS, Planned

GOLD = ("eval_gold_sft", "eval_gold_ppo", "eval_gold_ppo_low", "eval_gold_ppo_high", "eval_gold_gain")  # the truth
COLUMNS = {
    "ppo": ("score", "clip_fraction", "approx_kl", "grad_norm", "value_loss"),
    "overoptimisation": ("sqrt_kl", "proxy", "gold", "referee"),
}


class _Noting(dict[str, object]):
    """Metrics that note which of them were asked for."""

    def __init__(self, metrics: Mapping[str, object]) -> None:
        super().__init__(metrics)
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> object:
        self.asked.add(key)
        return super().get(key, default)


def record(run: Planned, folder: Path) -> dict[str, Any]:
    """Read one run as JSON: what evidence is made of, and the gold reward."""
    at, metrics = Layout(folder), dict[str, object]()
    for stage in STAGES:
        metrics |= read_json(at.metrics(stage))
    noting = _Noting(metrics)
    rows = {name: read_rows(at.plot(name)) for name in COLUMNS}
    evidence_of(noting, rows["ppo"], rows["overoptimisation"])
    kept = {name: metrics[name] for name in sorted({*noting.asked, *GOLD}) if name in metrics}
    curves = {
        name: {column: [_short(row.get(column, "")) for row in rows[name]] for column in columns}
        for name, columns in COLUMNS.items()
    }
    return {
        "name": run.name, "set": run.set, "kind": run.kind.name, "seed": run.seed,
        "changes": {**run.kind.changes, **run.changes}, "metrics": kept, "curves": curves,
    }  # fmt: skip


def evidence(run: Mapping[str, Any], *, blind: bool = False) -> Evidence:
    """Turn what `record` kept into what verdicts want. Blind: as on a task without a known truth."""
    metrics = {k: v for k, v in run["metrics"].items() if not (blind and k.startswith("eval_gold"))}
    rows = {}
    for name, columns in run["curves"].items():
        seen = {column: cells for column, cells in columns.items() if not (blind and column == "gold")}
        rows[name] = [dict(zip(seen, cells, strict=True)) for cells in zip(*seen.values(), strict=True)]
    return evidence_of(metrics, rows["ppo"], rows["overoptimisation"])


@dataclass(frozen=True, slots=True)
class Judged:
    """One run and its verdicts."""

    run: Mapping[str, Any]
    states: Mapping[str, State]

    @property
    def right(self) -> str | None:
        """The verdict that should name what was planted."""
        return KINDS[self.run["kind"]].right

    @property
    def named(self) -> State:
        """What that verdict said; of a sound run the worst of all verdicts."""
        if self.right is not None:
            return self.states[self.right]
        order: Sequence[State] = ("failed", "suspect", "sound", "unknown")
        return min(self.states.values(), key=order.index)


def judge_all(runs: Sequence[Mapping[str, Any]], limits: Thresholds, *, blind: bool) -> Iterator[Judged]:
    """Judge each run by these thresholds."""
    for run in runs:
        verdicts = all_verdicts(evidence(run, blind=blind), limits, {})
        yield Judged(run, {verdict.name: verdict.state for verdict in verdicts})


def took(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> bool | None:
    """Say whether a planted failure is one by the truth: its PPO policy's gold reward is, beyond its 95 % interval,
    below that of every sound run of the same seed. None where there is no such run yet."""
    sound = [other for other in runs if other["kind"] == "sound" and other["seed"] == run["seed"]]
    best = run["metrics"]["eval_gold_ppo_high"]
    return all(best < other["metrics"]["eval_gold_ppo"] for other in sound) if sound else None


def _short(cell: str) -> str:
    """Round to four significant digits: enough for a verdict, and a third of the bytes."""
    return f"{float(cell):.4g}" if cell else ""
