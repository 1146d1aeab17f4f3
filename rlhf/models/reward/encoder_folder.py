"""Check the folder of a sentence encoder before it is loaded: what it must hold, and how its layout says to pool.

A folder in the layout of sentence-transformers (modules.json, 1_Pooling/config.json), or a plain one as
`save_pretrained` writes it, whose texts are then pooled by the mean and not normalised, as sentence-transformers does
with such a folder. Only names and small JSON files are read here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, sha256_file
from rlhf.core.errors import UserError
from rlhf.models.text.model_folder import check_inside, check_model_folder, read_config, weight_files
from rlhf.models.text.one_line import in_one_line

_FROM_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")  # positions count from behind the padding's id
FAMILIES = ("albert", "bert", "distilbert", "electra", *_FROM_PADDING)  # model_type
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
_ALSO = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_MODULES, _PROMPTS = "modules.json", "config_sentence_transformers.json"
_LIMITS = "sentence_*_config.json"  # the longest text, and whether it is lower-cased first
_KINDS = ("Transformer", "Pooling", "Normalize")  # of modules that are read, in this order; the last may be missing
_SHORTEST = 8  # word pieces of a text that an encoder must take
_NO_LIMIT = 10**9  # what a tokenizer's config writes for "none" is larger


@dataclass(frozen=True, slots=True)
class EncoderFolder:
    """A folder that was checked, and what its configs say."""

    path: Path
    kind: str  # model_type
    max_tokens: int  # of a text, special tokens included
    normalise: bool  # whether embeddings have length 1
    lower: bool  # whether texts are lower-cased before the tokenizer reads them
    files: tuple[str, ...]  # those that are needed, relative to `path`


def check_encoder_folder(folder: Path) -> EncoderFolder:
    """Read what the folder says of itself.

    Raises:
        UserError: no folder, no config, no weights (or pickled ones only), no tokenizer; a model that is no encoder of
            a family that is read (`FAMILIES`); another pooling than the mean; a module or an instruction that is not
            read. One line that names the file.
    """
    check_model_folder(folder)
    config = read_config(folder)
    kind = _kind(config, folder)
    tokenizer = [name for name in TOKENIZER if (folder / name).is_file()]
    if not tokenizer:
        raise UserError(f"{folder}: no tokenizer; one of {', '.join(TOKENIZER)} is needed there")
    layout, normalise = _modules(folder)
    limits = sorted(path.name for path in folder.glob(_LIMITS) if path.name != _PROMPTS)
    if len(limits) > 1:
        raise UserError(f"{folder}: both {limits[0]} and {limits[1]}; which is meant? Take one of them away")
    own = read_config(folder, limits[0]) if limits else {}
    files = ("config.json", *weight_files(folder), *tokenizer, *layout, *limits)
    more = (*(name for name in _ALSO if (folder / name).is_file()), *_licences(folder))
    longest = _longest(config, own, kind, folder)
    return EncoderFolder(folder, kind, longest, normalise, bool(own.get("do_lower_case")), (*files, *more))


def sha256_of(folder: EncoderFolder) -> str:
    """Hash the files that are needed: their names and bytes, whatever else lies beside them."""
    return _hash({name: sha256_file(folder.path / name) for name in folder.files})


def read_files(folder: EncoderFolder) -> tuple[dict[str, bytes], str]:
    """Read the files that are needed, and hash what was read as `sha256_of` does.

    Raises:
        UserError: one is gone.
    """
    with in_one_line(f"{folder.path}: the encoder's files cannot be read"):
        found = {name: (folder.path / name).read_bytes() for name in folder.files}
    return found, _hash({name: hashlib.sha256(data).hexdigest() for name, data in found.items()})


def _hash(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def _kind(config: Mapping[str, Any], folder: Path) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{folder}/config.json: model_type {kind!r} is no sentence encoder that is read here; allowed: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    if config.get("is_decoder"):
        raise UserError(f"{folder}/config.json: is_decoder is set: a {kind} that sees no later word; found no encoder")
    return kind


def _modules(folder: Path) -> tuple[list[str], bool]:
    """Read modules.json and the pooling's config; return their names and whether embeddings are normalised."""
    check_inside(folder)
    _check_instruction(folder)
    if not (folder / _MODULES).is_file():
        _check_pooling(folder, "1_Pooling", needed=False)
        return ["1_Pooling/config.json"] if (folder / "1_Pooling" / "config.json").is_file() else [], False
    modules = _read_modules(folder)
    kinds = [kind for kind, _ in modules]
    if tuple(kinds) not in (_KINDS, _KINDS[:2]):
        raise UserError(
            f"{folder / _MODULES}: found the modules {', '.join(kinds) or '(none)'}; read are Transformer, Pooling and "
            "no more than Normalize, in this order"
        )
    (_, inner), (_, pooling), *_ = modules
    if inner:
        raise UserError(
            f"{folder / _MODULES}: the transformer lies in {inner!r}; its files are needed in the folder itself"
        )
    _check_pooling(folder, pooling)
    return [_MODULES, f"{pooling}/config.json"], "Normalize" in kinds


def _read_modules(folder: Path) -> list[tuple[str, str]]:
    """Read the kind and the folder of each module, in the order of their idx."""
    where = folder / _MODULES
    with in_one_line(f"{where}: cannot be read"):
        rows = read_json(where)
    whole = isinstance(rows, list) and all(isinstance(row, dict) and _is_module(row) for row in rows)
    if not whole:
        raise UserError(f"{where}: a list of modules is needed, each with idx, type, and a path within the folder")
    ordered = sorted(rows, key=lambda row: int(row["idx"]))
    return [(str(row["type"]).rpartition(".")[2], str(row["path"])) for row in ordered]


def _is_module(row: Mapping[str, Any]) -> bool:
    path = row.get("path")
    inside = isinstance(path, str) and path not in (".", "..") and Path(path).name == path
    return inside and isinstance(row.get("type"), str) and type(row.get("idx")) is int


def _check_pooling(folder: Path, inner: str, *, needed: bool = True) -> None:
    """Check that a pooling's config asks for the mean over tokens and nothing else."""
    where = folder / inner / "config.json"
    if not where.is_file():
        if needed:
            raise UserError(f"{where}: no such file, which {_MODULES} names")
        return
    check_inside(folder / inner, home=folder)
    config = read_config(folder, f"{inner}/config.json")
    one = config.get("pooling_mode")  # as newer releases write it; older ones have a flag for each
    found = [one] if isinstance(one, str) else [
        name.removeprefix("pooling_mode_") for name, on in config.items() if name.startswith("pooling_mode_") and on
    ]  # fmt: skip
    if found not in (["mean"], ["mean_tokens"]):
        raise UserError(
            f"{where}: pooling by {' + '.join(map(str, found)) or 'nothing'}; only the mean over tokens is read"
        )


def _check_instruction(folder: Path) -> None:
    where = folder / _PROMPTS
    name = read_config(folder, _PROMPTS).get("default_prompt_name") if where.is_file() else None
    if name is not None:
        raise UserError(
            f"{where}: default_prompt_name {name!r}: encoders that want an instruction before each text are not read"
        )


def _longest(config: Mapping[str, Any], own: Mapping[str, Any], kind: str, folder: Path) -> int:
    """Compute the longest text: the least of what the layout, the tokenizer and the table of positions allow."""
    tokenizer = read_config(folder, _ALSO[0]) if (folder / _ALSO[0]).is_file() else {}
    rows, pad = config.get("max_position_embeddings", 512), config.get("pad_token_id", 1)
    if type(rows) is not int:
        raise UserError(f"{folder}/config.json: max_position_embeddings: found {rows!r}; a whole number is needed")
    reached = rows - (max(2, pad + 1 if isinstance(pad, int) else 2) if kind in _FROM_PADDING else 0)
    sizes = [reached]
    for name, config_of_it in (("max_seq_length", own), ("model_max_length", tokenizer)):
        value = config_of_it.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{folder}: {name}: found {value!r}; a number of word pieces is needed")
        sizes += [int(value)] if value is not None and value < _NO_LIMIT else []
    longest = min(sizes)
    if longest < _SHORTEST:
        raise UserError(f"{folder}: texts of {longest} word pieces at most; {_SHORTEST} or more are needed")
    return longest


def _licences(folder: Path) -> Sequence[str]:
    return sorted(item.name for item in folder.glob("LICENSE*") if item.is_file())
