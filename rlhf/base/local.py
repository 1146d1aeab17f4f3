"""Check and copy a model folder: safetensors, a known architecture, a tokenizer that fits."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rlhf.core.artifacts import atomic_dir, read_json
from rlhf.core.errors import UserError
from rlhf.models.text.load import check_model_folder, load_model, load_tokenizer

_INDEX = "model.safetensors.index.json"
_TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
_ALSO = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)


def copy_model(source: Path, target: Path, *, dtype: torch.dtype, beside: Sequence[Path] = ()) -> PreTrainedModel:
    """Check the model in `source`, copy what is needed of it to `target` (whole or not at all), and load it.

    Copied are config, safetensors weights, tokenizer files and licences, and the files `beside`; code and pickled
    weights never are.

    Raises:
        UserError: one line naming `source`: no folder, no config, no weights (or pickled ones only), a shard that is
            missing, weights that do not fit, an architecture that transformers does not have itself, no tokenizer,
            or a tokenizer with more tokens than the model.
    """
    files = [source / name for name in _names(source)]
    tokenizer = load_tokenizer(source, noted=False)
    model = load_model(source, dtype=dtype, device="cpu")
    rows = next(model.get_input_embeddings().parameters()).shape[0]
    if len(tokenizer) > rows:
        raise UserError(f"{source}: the tokenizer has {len(tokenizer)} tokens, the model only {rows}: they do not fit")
    with atomic_dir(target) as folder:
        for file in [*files, *beside]:
            shutil.copyfile(file, folder / file.name)
    return model


def _names(source: Path) -> Iterator[str]:
    """List the files to copy, after checking that those that are needed exist."""
    if not source.is_dir():
        raise UserError(f"base.path: {source}: no such folder; a model in save_pretrained form is needed there")
    check_model_folder(source)
    _check_architecture(source)
    yield "config.json"
    yield from _weights(source)
    tokenizer = [name for name in _TOKENIZER if (source / name).is_file()]
    if not tokenizer:
        raise UserError(f"{source}: no tokenizer; expected one of {', '.join(_TOKENIZER)}")
    yield from tokenizer
    yield from (name for name in _ALSO if (source / name).is_file())
    yield from sorted(item.name for item in source.glob("LICENSE*") if item.is_file())


def _weights(source: Path) -> list[str]:
    if not (source / _INDEX).is_file():
        if (source / "model.safetensors").is_file():
            return ["model.safetensors"]
        raise UserError(f"{source}: no model.safetensors (nor {_INDEX} with its shards)")
    shards = read_json(source / _INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError(f"{source / _INDEX}: no weight_map; expected a mapping of weights to shard files")
    names = sorted({Path(str(name)).name for name in shards.values()})
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise UserError(f"{source}: {missing[0]} is missing ({len(missing)} of {len(names)} shards in {_INDEX})")
    return [_INDEX, *names]


def _check_architecture(source: Path) -> None:
    config = read_json(source / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    found = json.dumps(kind)
    if isinstance(config, dict) and "auto_map" in config:
        raise UserError(f"{source}: model_type {found} needs code from the repository, which is never run here")
    raise UserError(f"{source}: model_type {found} is no causal language model that transformers has")
