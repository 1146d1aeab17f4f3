"""Model cards with the numbers of the evaluation, which the stages that made the models could not know."""

from collections.abc import Mapping
from typing import Any

from rlhf.core.card import model_card
from rlhf.report.inputs import Inputs

MODELS = {  # by the stage that made it
    "base": ("artifacts/base",), "sft": ("artifacts/sft",), "reward": ("artifacts/reward", "artifacts/referee"),
    "ppo": ("artifacts/ppo",),
}  # fmt: skip
NAMED = {"artifacts/referee": "reward_referee_"}  # of a stage's metrics, those that are about this one alone
OFFLINE = "offline_"  # provenance of the other methods: offline_<method>
OWN_LICENCE = "apache-2.0"  # of what was made here from nothing but this project


def cards(run: Inputs) -> dict[str, str]:
    """A card for each model that has provenance, and was measured."""
    found = {}
    for stage, record in run.provenance.items():
        method = stage.removeprefix(OFFLINE)
        folders = (f"artifacts/offline/{method}",) if stage.startswith(OFFLINE) else MODELS.get(stage, ())
        for folder in folders:
            name, own = folder.rpartition("/")[2], _own(run, stage, folder)
            if folder in record.get("outputs", {}) and own:
                found[name] = _card(run, folder, record["params"], own | _evaluated(run, name))
    return found


def _card(run: Inputs, folder: str, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    base, data = run.resolved["base"], run.resolved["data"]
    ours = base["source"] == "pretrain" and data["source"] == "synthetic"
    return model_card(
        folder=folder,
        stage=folder.rpartition("/")[2],
        params=params,
        metrics=metrics,
        base=base["repo"] if base["source"] == "hub" else None,
        dataset=data["hub"]["repo"] if data["source"] == "hub" else None,
        licence=OWN_LICENCE if ours else None,
    )


def _own(run: Inputs, stage: str, folder: str) -> dict[str, Any]:
    """What the stage has measured of the model in this folder; nothing of a second reward model that is not there."""
    begins = NAMED.get(folder, f"{stage}_")
    return {name: value for name, value in run.numbers.values.items() if name.startswith(begins) and value is not None}


def _evaluated(run: Inputs, name: str) -> dict[str, Any]:
    """The evaluation's metrics that are about this policy or this judge."""
    evaluated = {key: value for key, value in run.numbers.values.items() if key.startswith(("eval_", "compare_"))}
    sign = f"_{name.removeprefix('reward_')}"
    return {
        key: value
        for key, value in evaluated.items()
        if sign in key or (name == "ppo" and not any(f"_{other}" in key for other in ("base", "sft")))
    }
