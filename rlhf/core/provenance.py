"""Record how a stage's outputs were made: its parameters, the hashes of its inputs and outputs, the library versions.

Written beside the models and not inside them, so that equal models have equal bytes. What is a fact of one machine
(processor, libc, BLAS) is not here but in .costs/: it would make two machines differ where their results do not.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rlhf.core.artifacts import read_json, sha256_file, sha256_tree, write_json

LIBRARIES = (
    "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "scipy", "choix", "trl",
)  # fmt: skip


def write_provenance(
    path: Path,
    *,
    stage: str,
    params: Mapping[str, object],
    inputs: Iterable[Path],
    outputs: Iterable[Path],
    written: Iterable[Path] = (),
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write the provenance of one stage's outputs: JSON with sorted keys and no timestamp.

    `inputs` and `outputs` (the models and data that others start from) are files or folders; they are named by the
    paths given and hashed with SHA-256. `written` is all that the stage writes, this record aside: each of its files is
    hashed on its own, so that `rlhf.core.intact` can name the one that is not what it was. `versions` are those of
    engines outside of this environment.
    """
    record = {
        "stage": stage,
        "params": params,
        "inputs": {item.as_posix(): sha256_tree(item) for item in inputs},
        "outputs": {item.as_posix(): sha256_tree(item) for item in outputs},
        "files": {file.as_posix(): sha256_file(file) for item in written if item != path for file in files_of(item)},
        "versions": {"python": platform.python_version(), **library_versions(), **(versions or {})},
    }
    write_json(path, record)


def files_of(item: Path) -> Iterator[Path]:
    """Yield the file itself, or the files below a folder in the order of their names; nothing where nothing is."""
    if item.is_file():
        yield item
    else:
        yield from sorted(file for file in item.rglob("*") if file.is_file())


def record_again(path: Path) -> None:
    """Bring the hashes of a record up to what its files are now: for a study that alters a stage's outputs on purpose.

    Raises:
        UserError: a file of the record is not there.
    """
    record, root = read_json(path), path.parent.parent
    record["outputs"] = {name: sha256_tree(root / name) for name in record["outputs"]}
    record["files"] = {name: sha256_tree(root / name) for name in record["files"]}
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
