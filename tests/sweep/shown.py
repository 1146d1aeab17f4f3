"""Answers in the form of `dvc exp show --json`, as DVC 3.67 gave them, less what is not read."""

from typing import Any


def experiment(
    name: str, state: str | None, *, params: dict[str, Any], metrics: dict[str, float] | None
) -> dict[str, Any]:
    files = {"params.yaml": {"data": params}, "params.resolved.json": {"data": {"seed": 99}}}
    evaluated = {"metrics/ppo.json": {"data": {"ppo_kl_final": 9.0}}}
    if metrics is not None:
        evaluated["metrics/evaluate.json"] = {"data": metrics}
    data = {"rev": "8" * 40, "timestamp": "2026-11-21T14:56:40", "params": files, "metrics": evaluated, "deps": {}}
    executor = None if state is None else {"state": state, "name": "dvc-task", "local": {"root": None, "pid": 7}}
    revs = [{"rev": "8" * 40, "name": name, "data": data, "error": None}]
    return {"revs": revs, "executor": executor, "name": name}


def params(kl_coef: float, lr: float, seed: int) -> dict[str, Any]:
    return {"profile": "tiny", "seed": seed, "ppo": {"kl_coef": kl_coef, "lr": lr, "iterations": None}}


def numbers(kl: float, gold: float) -> dict[str, float]:
    return {"eval_kl": kl, "eval_gold_ppo": gold, "eval_reward_ppo": 2 * gold, "eval_gold_winrate": 0.5}


def sweep() -> list[dict[str, Any]]:
    """Three settings that succeeded, the first with two seeds; one each that failed, runs and waits."""
    experiments = [
        experiment("low-0", "success", params=params(0.1, 0.001, 0), metrics=numbers(2.0, 0.5)),
        experiment("low-1", "success", params=params(0.1, 0.001, 1), metrics=numbers(4.0, 0.9)),
        experiment("high-0", None, params=params(0.5, 0.001, 0), metrics=numbers(1.0, 0.4)),
        experiment("worse-0", "success", params=params(0.5, 0.003, 0), metrics=numbers(1.5, 0.3)),
        experiment("broke", "failed", params=params(0.1, 0.003, 0), metrics=None),
        experiment("going", "running", params=params(1.0, 0.003, 0), metrics=numbers(0.0, 99.0)),
        experiment("waits", "queued", params=params(1.0, 0.001, 0), metrics=None),
        experiment("empty", "success", params=params(1.0, 0.001, 1), metrics=None),
    ]
    data = {"rev": "workspace", "params": {}, "metrics": {}}
    return [
        {"rev": "workspace", "name": None, "data": data, "error": None, "experiments": None},
        {"rev": "17ca9f245", "name": "main", "data": data, "error": None, "experiments": experiments},
    ]
