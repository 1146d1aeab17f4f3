"""Write model cards with the evaluation's numbers, which the stages that made the models could not know."""

from collections.abc import Mapping
from typing import Any

from rlhf.core.card import model_card
from rlhf.report.inputs import Inputs

MODELS = {  # stage -> folders of the models that it makes
    "base": ("artifacts/base",), "sft": ("artifacts/sft",), "reward": ("artifacts/reward", "artifacts/referee"),
    "ppo": ("artifacts/ppo",),
}  # fmt: skip
PREFIXES = {"artifacts/referee": "reward_referee_"}  # folder -> prefix of its metrics, where it is not the stage's
OFFLINE = "offline_"  # provenance of the other methods: offline_<method>
OWN_LICENCE = "apache-2.0"  # of models made here from this project alone


def cards(run: Inputs) -> dict[str, str]:
    """Return a card for each model that has provenance and was measured, by the name of its folder."""
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
    """Return the stage's metrics of the model in this folder; none where there is no referee."""
    begins = PREFIXES.get(folder, f"{stage}_")
    return {name: value for name, value in run.numbers.values.items() if name.startswith(begins) and value is not None}


def _evaluated(run: Inputs, name: str) -> dict[str, Any]:
    """Return the evaluation's metrics about this policy, reward model or referee."""
    evaluated = {key: value for key, value in run.numbers.values.items() if key.startswith(("eval_", "compare_"))}
    sign = f"_{name.removeprefix('reward_')}"
    return {
        key: value
        for key, value in evaluated.items()
        if sign in key or (name == "ppo" and not any(f"_{other}" in key for other in ("base", "sft")))
    }
