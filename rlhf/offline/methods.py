"""The alternatives to PPO by name, and the note that one leaves that is switched off. Light: no torch."""

from rlhf.core.artifacts import atomic_dir, write_json
from rlhf.core.layout import Layout

TRAINED = ("dpo", "ipo", "rrhf", "rejection")
METHODS = (*TRAINED, "best_of_n")
POLICY = "policy.json"  # in artifacts/offline/<method>: whether it ran, and what kind of policy it is


def switched_off(method: str, at: Layout) -> dict[str, object]:
    """Write artifacts/offline/<method> of a method with `run: false`; return the metrics."""
    with atomic_dir(at.offline(method)) as folder:
        write_json(folder / POLICY, {"method": method, "run": False})
    return {f"offline_{method}_run": False}
