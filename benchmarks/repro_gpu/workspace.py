"""Prepare a folder to run the stages in: the project's code and parameters, with the values of this run."""

import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rlhf.core.errors import UserError
from studies.folder import put

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ("inputs/reward", "inputs/benchmarks", "inputs/people")  # dependencies of ppo and evaluate, empty or not
CODE = ("rlhf", "stages", "profiles", *INPUTS)
FILES = ("dvc.yaml", "params.yaml", ".dvcignore")  # the last, or compiled code would count, and nothing be resumed


def prepare_workspace(folder: Path, changes: dict[str, Any]) -> None:
    """Copy code and parameters (artifacts and checkpoints that are there stay) and write `changes` to params.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / name)
    set_values(folder / "params.yaml", changes)


def set_values(path: Path, changes: dict[str, Any]) -> None:
    """Change values by dotted key. Raises UserError for a key that is not in the file."""
    yaml = YAML()
    values = yaml.load(path.read_text(encoding="utf-8"))
    put(values, changes, where=str(path))
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def parsed(words: list[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` words as changes, values as YAML."""
    yaml = YAML(typ="safe", pure=True)
    changes = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--set {word}: KEY=VALUE is needed, as in runtime.dtype=bfloat16")
        changes[key] = yaml.load(value)
    return changes
