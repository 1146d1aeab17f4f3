"""Put all policies of a run into one table. SFT and PPO are read from evaluate's metrics, so that no number exists
twice; only alternatives that were asked for are sampled here (no torch where there are none)."""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.compare.table import write_table
from rlhf.core.artifacts import read_json
from rlhf.core.curves import Cell
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime
from rlhf.measure.functions import REWARD_MODELS, Functions
from rlhf.measure.params import MeasureParams

Metrics = dict[str, object]
OF_EACH = (
    "reward",
    "referee",
    "gold",
    "length",
    "entropy",
    "ended",
    "distinct1",
    "distinct2",
    "repetition",
    "compression",
)
OVER_SFT = ("rm_winrate", "referee_winrate", "gold_winrate", "rm_lc_winrate", "referee_lc_winrate", "gold_lc_winrate")
DRIFT = ("kl", "kl_exact")
COLUMNS = (
    "reward", "referee", "gold", "rm_winrate", "referee_winrate", "gold_winrate", "kl", "kl_bound", "length",
    "distinct2", "tax_perplexity", "tokens_sampled", "tokens_trained", "tokens_per_reply",
)  # fmt: skip
WITH_INTERVAL = ("reward", "referee", "gold", "rm_winrate", "referee_winrate", "gold_winrate", "kl")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The policies in the table's order, and every number as compare_<measure>_<policy>."""

    policies: list[str]
    metrics: Metrics
    samples: list[dict[str, object]] = field(default_factory=list)  # SFT's and the alternatives' replies side by side

    def rows(self) -> list[dict[str, Cell]]:
        """Build the table: a row a policy, all with the same columns; None where a cell is empty."""
        found = []
        for policy in self.policies:
            row: dict[str, Any] = {"policy": policy}
            for column in COLUMNS:
                ends = ("", "_low", "_high") if column in WITH_INTERVAL else ("",)
                row |= {column + end: self.metrics.get(f"compare_{column}_{policy}{end}") for end in ends}
            found.append(row)
        return found


def compare(
    at: Layout,
    methods: Mapping[str, Metrics],
    params: MeasureParams,
    start: Callable[[], Runtime],
    functions: Functions = REWARD_MODELS,
    *,
    corpus_share: float | None,
) -> Comparison:
    """Compare SFT, PPO and the alternatives in `methods` (name -> its policy.json) that have run. `corpus_share`: as
    for `evaluate`.

    Raises:
        UserError: evaluate's metrics, or an artifact of a method that has run, are missing.
    """
    metrics = from_evaluation(read_json(at.metrics("evaluate"))) | _ppo_tokens(at)
    policies, samples = ["base", "sft", "ppo"], list[dict[str, object]]()
    on = {name: policy for name, policy in methods.items() if policy.get("run")}
    if on:
        from rlhf.compare.alternatives import measure_alternatives

        found, samples = measure_alternatives(at, on, params, start(), functions, corpus_share=corpus_share)
        policies += found
        for name, numbers in found.items():
            metrics |= named(numbers, name)
    return Comparison(policies, dict(sorted(metrics.items())), samples)


def write(found: Comparison, folder: Path) -> None:
    """Write compare.md, and where alternatives were sampled a figure, samples.jsonl and samples.md: SFT's replies and
    theirs side by side (PPO's are in artifacts/evaluate)."""
    write_table(folder, found.rows())
    if found.samples:
        from rlhf.measure.samples import write_samples

        sampled = [name for name in found.policies if name in found.samples[0]]
        write_samples(folder, found.samples, sampled, "Replies of SFT and of the alternatives")


def read_methods(at: Layout, names: tuple[str, ...]) -> dict[str, Metrics]:
    """Read each method's policy.json.

    Raises:
        UserError: one is missing: the stage `offline` was never run.
    """
    return {name: read_json(at.offline(name) / "policy.json") for name in names}


def from_evaluation(found: Mapping[str, object]) -> Metrics:
    """Take base, SFT and PPO from evaluate's metrics, under compare's names.

    Raises:
        UserError: these are no metrics of evaluate.
    """
    if "eval_reward_ppo" not in found:
        raise UserError("metrics/evaluate.json: no eval_reward_ppo; run the stage evaluate again")
    metrics: Metrics = {"compare_prompts": found["eval_prompts"]}
    for policy in ("base", "sft", "ppo"):
        for measure in (*OF_EACH, "tax_perplexity"):
            _take(metrics, found, f"eval_{measure}_{policy}", f"compare_{measure}_{policy}")
        metrics[f"compare_tokens_per_reply_{policy}"] = found[f"eval_length_{policy}"]
    for measure in (*OVER_SFT, *DRIFT):
        _take(metrics, found, f"eval_{measure}", f"compare_{measure}_ppo")
    metrics |= {"compare_kl_base": found["eval_kl_base"], "compare_kl_sft": 0.0}
    return metrics


def named(numbers: Mapping[str, object], policy: str) -> Metrics:
    """Rename each `measure` to compare_<measure>_<policy>; the end of an interval stays at the end of the name."""
    return {re.sub(r"^(.*?)(_low|_high)?$", rf"compare_\1_{policy}\2", name): value for name, value in numbers.items()}


def _take(into: Metrics, found: Mapping[str, object], name: str, new: str) -> None:
    for end in ("", "_low", "_high"):
        if name + end in found:
            into[new + end] = found[name + end]


def _ppo_tokens(at: Layout) -> Metrics:
    """Count the response tokens that PPO sampled and trained on, from its curve (a mean length an iteration)."""
    params = read_json(at.provenance("ppo"))["params"]["ppo"]
    sampled = trained = 0.0
    with at.plot("ppo").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sampled += float(row["length"]) * params["batch"]
            trained += float(row["length"]) * params["minibatch"] * float(row["minibatches"] or 0)
    return {"compare_tokens_sampled_ppo": round(sampled), "compare_tokens_trained_ppo": round(trained)}
