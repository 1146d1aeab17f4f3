"""Record how a model was made: its parameters, the hashes of its inputs, and the library versions.

Written beside the models and not inside them, so that equal models have equal bytes.
"""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlhf.core.artifacts import sha256_tree, write_json

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "trl")


def write_provenance(
    path: Path, *, stage: str, params: Mapping[str, object], inputs: Iterable[Path], outputs: Iterable[Path]
) -> None:
    """Write the provenance of one stage's models: JSON with sorted keys and no timestamp.

    `inputs` and `outputs` are files or folders; they are named by the paths given and hashed with SHA-256.
    """
    record = {
        "stage": stage,
        "params": params,
        "inputs": {item.as_posix(): sha256_tree(item) for item in inputs},
        "outputs": {item.as_posix(): sha256_tree(item) for item in outputs},
        "versions": {"python": platform.python_version(), **library_versions()},
    }
    write_json(path, record)


def library_versions() -> dict[str, str | None]:
    """Find the installed versions of the libraries that numbers depend on; None where one is absent."""
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
