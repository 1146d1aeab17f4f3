"""Model cards with the numbers of the evaluation, which the stages that made the models could not know."""

from collections.abc import Mapping
from typing import Any

from rlhf.core.card import model_card
from rlhf.report.inputs import Inputs

MODELS = {"sft": "artifacts/sft", "reward": "artifacts/reward", "ppo": "artifacts/ppo"}
OFFLINE = "offline_"  # provenance of the other methods: offline_<method>
OWN_LICENCE = "apache-2.0"  # of what was made here from nothing but this project


def cards(run: Inputs) -> dict[str, str]:
    """A card for each model that has provenance."""
    found = {}
    for stage, record in run.provenance.items():
        method = stage.removeprefix(OFFLINE)
        folder = MODELS.get(stage) or (f"artifacts/offline/{method}" if stage.startswith(OFFLINE) else None)
        if folder is None or folder not in record.get("outputs", {}):
            continue
        base, data = run.resolved["base"], run.resolved["data"]
        ours = base["source"] == "pretrain" and data["source"] == "synthetic"
        found[method] = model_card(
            folder=folder,
            stage=method,
            params=record["params"],
            metrics=_metrics(run, stage, method),
            base=base["repo"] if base["source"] == "hub" else None,
            dataset=data["hub"]["repo"] if data["source"] == "hub" else None,
            licence=OWN_LICENCE if ours else None,
        )
    return found


def _metrics(run: Inputs, stage: str, method: str) -> Mapping[str, Any]:
    """The stage's own metrics, and those of the evaluation that are about this policy."""
    values = run.numbers.values
    evaluated = {name: value for name, value in values.items() if name.startswith(("eval_", "compare_"))}
    about = {
        name: value
        for name, value in evaluated.items()
        if f"_{method}" in name or (method == "ppo" and not any(f"_{other}" in name for other in ("base", "sft")))
    }
    return {name: value for name, value in values.items() if name.startswith(f"{stage}_")} | about
