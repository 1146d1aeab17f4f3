"""Check a model folder before it is loaded: what it must hold, what it must not, and where its files lie."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.errors import UserError
from rlhf.models.text.one_line import in_one_line

INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
GENERATION = "generation_config.json"
_READ = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICENSE*")  # what is read or copied of a folder
_ADAPTER = re.compile(r"adapter_config\.json|adapter_model.*\.(safetensors|bin)")
_OF_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".npz")
_QUANTISED = ("quantization_config", "compression_config")


def check_model_folder(folder: Path) -> None:
    """Check that `folder` holds a config and safetensors weights, and nothing that would be left out without a word.

    Only names and small JSON files are read.

    Raises:
        UserError: no config or no weights, or these only as a GGUF; a file that is a link out of the folder; weights in
            two forms; an adapter beside the weights; quantised weights. One line that names the folder.
    """
    _check_gguf(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; a model in save_pretrained form is needed there")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json; a model in save_pretrained form is needed there")
    check_inside(folder)
    _check_adapter(folder)
    _check_quantised(read_config(folder), folder)
    if (folder / GENERATION).is_file():
        read_config(folder, GENERATION)  # a broken one is left out by the library, and the end tokens in it
    weight_files(folder)


def read_config(folder: Path, name: str = "config.json") -> Mapping[str, Any]:
    """Read config.json, or another config, as plain data.

    Raises:
        UserError: it is missing, or no JSON object.
    """
    with in_one_line(f"{folder / name}: cannot be read"):  # JSON nested too deeply, for one
        config = read_json(folder / name)
    if not isinstance(config, dict):
        raise UserError(f"{folder / name}: found {type(config).__name__}; a JSON object is needed")
    return config


def check_inside(folder: Path, *, home: Path | None = None) -> None:
    """Check that no file that may be read is a link to somewhere else, so that nothing else is ever copied. `home`: the
    model's folder, where `folder` is one in it.

    The library's own cache keeps a repository's files in blobs/ and links them into snapshots/<commit>/: a link that
    ends in the blobs of the same repository is one of its files.

    Raises:
        UserError: a file's real place is outside; it is named.
    """
    own = (home or folder).resolve()
    homes = [own, own.parents[1] / "blobs"] if own.parent.name == "snapshots" else [own]
    for path in sorted({path for pattern in _READ for path in folder.glob(pattern)}):
        with in_one_line(f"{path}: cannot be read"):  # a circle of links
            real = path.resolve()
        if not any(real.is_relative_to(place) for place in homes):
            raise UserError(f"{path}: links to a file outside of the model's folder; put the file itself there")


def weight_files(folder: Path) -> list[str]:
    """Name the files of the weights: model.safetensors, or the index and its shards.

    Raises:
        UserError: there are none, or only pickled ones; both forms are there; the index is malformed, or names a file
            that is missing or outside of the folder.
    """
    single, sharded = (folder / WEIGHTS).is_file(), (folder / INDEX).is_file()
    if single and sharded:
        raise UserError(f"{folder}: both {WEIGHTS} and {INDEX}; which weights are meant? Take one of them away")
    if sharded:
        return [INDEX, *_shards(folder)]
    if single:
        return [WEIGHTS]
    if found := sorted(path.name for path in folder.glob("*.safetensors")):
        raise UserError(f"{folder}: {found[0]}, but no {WEIGHTS} (nor {INDEX} with its shards)")
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise UserError(f"{folder}: weights only as {pickled[0]}, which is pickle; convert them to safetensors")
    raise UserError(f"{folder}: no weights; {WEIGHTS} is needed there")


def idle_files(folder: Path) -> Iterator[str]:
    """Name the weight files that the folder holds beside those of the model, and adapters in folders of their own: what
    nothing reads."""
    used = set(weight_files(folder))
    found = (path.name for path in folder.iterdir() if path.suffix.lower() in _OF_WEIGHTS and path.is_file())
    yield from sorted(name for name in found if name not in used)
    yield from sorted(f"{path.parent.name}/ (an adapter)" for path in folder.glob("*/adapter_config.json"))


def _shards(folder: Path) -> list[str]:
    with in_one_line(f"{folder / INDEX}: cannot be read"):
        index = read_json(folder / INDEX)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{folder / INDEX}: no weight_map; expected a mapping of weights to shard files")
    for tensor, name in shards.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(
                f"{folder / INDEX}: {tensor}: found {name!r}; the name of a .safetensors file in this folder is needed"
            )
    names = sorted(set(shards.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {missing[0]} is missing ({len(missing)} of {len(names)} shards in {INDEX})")
    return names


def _check_gguf(folder: Path) -> None:
    """Refuse a GGUF, or a folder with nothing else: what it holds is quantised, and its tokenizer only named."""
    found = [folder.name] if folder.is_file() else sorted(path.name for path in folder.glob("*.gguf"))
    if found and found[0].endswith(".gguf") and not list(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: weights only as {found[0]}, a GGUF; make safetensors of it, as docs/real-runs.md does"
        )


def _check_adapter(folder: Path) -> None:
    beside = sorted(path.name for path in folder.iterdir() if _ADAPTER.fullmatch(path.name))
    if beside:
        raise UserError(
            f"{folder}: {beside[0]} beside the weights; merge the adapter into the model (peft's merge_and_unload), "
            "or take it away"
        )


def _check_quantised(config: Mapping[str, Any], folder: Path) -> None:
    places = [config, *(part for part in config.values() if isinstance(part, dict))]
    for key in _QUANTISED:
        for place in places:
            if place.get(key) is not None:
                how = place[key].get("quant_method") if isinstance(place[key], dict) else place[key]
                raise UserError(
                    f"{folder}/config.json: {key} ({how}): quantised weights cannot be trained on here; take the model "
                    "in float32, bfloat16 or float16"
                )
