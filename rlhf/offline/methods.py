"""The alternatives to PPO, by name, and what is left of one that is not asked for. Light: no torch."""

from rlhf.core.artifacts import atomic_dir, write_json, write_metrics
from rlhf.core.layout import Layout

TRAINED = ("dpo", "ipo", "rrhf", "rejection")
METHODS = (*TRAINED, "best_of_n")
POLICY = "policy.json"  # in artifacts/offline/<method>: whether it ran, and what kind of policy it is


def switched_off(method: str, at: Layout) -> None:
    """Write artifacts/offline/<method> and metrics/offline_<method>.json of a method with `run: false`."""
    with atomic_dir(at.offline(method)) as folder:
        write_json(folder / POLICY, {"method": method, "run": False})
    write_metrics(at.metrics(f"offline_{method}"), {f"offline_{method}_run": False})
