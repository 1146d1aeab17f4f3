"""Experiments as `dvc exp show --json` tells of them."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError

SEED = "seed"
_EVALUATE, _REWARD = "metrics/evaluate.json", "metrics/reward.json"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment. `state`: success, failed, running or queued; `metrics` are evaluate's, empty unless success."""

    name: str
    state: str
    params: Mapping[str, object]  # of params.yaml, by dotted name
    metrics: Mapping[str, object]

    @property
    def seed(self) -> object:
        """Its run's seed."""
        return self.params.get(SEED)


def ask_dvc(commits: int) -> Any:
    """What DVC knows of the experiments on the last `commits` commits.

    Raises:
        UserError: DVC failed; its last line.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(commits)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words and a number
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"dvc exp show: {last}")
    return json.loads(done.stdout)


def read_experiments(shown: Any, where: str) -> list[Experiment]:
    """Every experiment in that answer, by name; commits and the workspace are none.

    Raises:
        UserError: it is no such answer.
    """
    try:
        return sorted(_experiments(shown), key=lambda one: one.name)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{where}: not what `dvc exp show --json` writes ({type(error).__name__}: {error})") from None


def read_file(path: Path) -> list[Experiment]:
    """The same from a file."""
    return read_experiments(read_json(path), str(path))


def _experiments(shown: Sequence[Mapping[str, Any]]) -> Iterator[Experiment]:
    for commit in shown:
        for group in commit.get("experiments") or ():
            newest = group["revs"][0]
            executor = group.get("executor") or {}
            data = newest.get("data") or {}
            state = str(executor.get("state") or ("failed" if newest.get("error") else "success"))
            metrics = _judged(_data(data.get("metrics"), _EVALUATE), _data(data.get("metrics"), _REWARD))
            if state == "success" and not metrics:
                state = "failed"  # it ended, and there is nothing of it
            name = str(newest.get("name") or group.get("name") or newest["rev"][:7])
            # An unfinished one shows the metrics of the commit that it started from.
            params = dict(_flat(_data(data.get("params"), "params.yaml")))
            yield Experiment(name, state, params, metrics if state == "success" else {})


def _judged(evaluated: dict[str, Any], reward: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a referee says that does not beat length: no setting is the best by it."""
    none = reward.get("reward_referee_beats_length") is False and "eval_referee_by" not in evaluated
    return {name: value for name, value in evaluated.items() if not (none and name.startswith("eval_referee_"))}


def _data(files: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """The content of one file; {} where it is missing or could not be read."""
    return dict(((files or {}).get(name) or {}).get("data") or {})


def _flat(values: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value
