"""Check and copy a model folder: safetensors, a known architecture, a tokenizer that fits."""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rlhf.core.artifacts import atomic_dir
from rlhf.core.errors import UserError
from rlhf.core.text import printable
from rlhf.models.text.end_tokens import end_tokens
from rlhf.models.text.load import load_model, load_tokenizer
from rlhf.models.text.model_folder import GENERATION, check_model_folder, idle_files, read_config, weight_files
from rlhf.models.text.stored import check_finite, check_stored

_TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
_ALSO = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)


# Of generation_config.json: what a run reads, or what changes no reply of its.
_USED = {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config", "do_sample"}
_USED |= {"max_length", "max_new_tokens", "use_cache", "decoder_start_token_id", "output_attentions"}
_USED |= {"output_hidden_states", "return_dict_in_generate"}


def copy_model(source: Path, target: Path, *, dtype: torch.dtype, beside: Sequence[Path] = ()) -> PreTrainedModel:
    """Check the model in `source`, copy what is needed of it to `target` (whole or not at all), and load it.

    Copied are config, safetensors weights, tokenizer files and licences, and the files `beside`; code and pickled
    weights never are. Weight files that nothing reads, and ends of replies beside the tokenizer's, are named on stderr.

    Raises:
        UserError: one line naming `source`: no folder, no config, no weights (or pickled ones only), a shard that is
            missing, a tensor in two shards, weights that do not fit, are not finite or are stored as codes, an
            architecture that transformers does not have itself, no tokenizer, or a tokenizer with ids beyond the
            model's embedding; and all that `check_model_folder` and `load_model` refuse.
    """
    files = [source / name for name in _names(source)]
    tokenizer = load_tokenizer(source, noted=False)
    model = load_model(source, dtype=dtype, device="cpu")
    check_stored(source, model)
    check_finite(model, source)
    _check_ids(tokenizer, model, source)
    _say(source, _notes(source, model, tokenizer))
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
    yield from weight_files(source)
    tokenizer = [name for name in _TOKENIZER if (source / name).is_file()]
    if not tokenizer:
        raise UserError(f"{source}: no tokenizer; expected one of {', '.join(_TOKENIZER)}")
    yield from tokenizer
    yield from (name for name in _ALSO if (source / name).is_file())
    yield from sorted(item.name for item in source.glob("LICENSE*") if item.is_file())


def _check_architecture(source: Path) -> None:
    config = read_config(source)
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    found = json.dumps(kind)
    if "auto_map" in config:
        raise UserError(f"{source}: model_type {found} needs code from the repository, which is never run here")
    raise UserError(f"{source}: model_type {found} is no causal language model that transformers has")


def _check_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, source: Path) -> None:
    rows = next(model.get_input_embeddings().parameters()).shape[0]
    if len(tokenizer) > rows:
        raise UserError(f"{source}: the tokenizer has {len(tokenizer)} tokens, the model only {rows}: they do not fit")
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= rows:  # where ids have gaps
        raise UserError(
            f"{source}: the tokenizer gives {printable(token)!r} the id {largest}, the model's embedding ends at "
            f"{rows - 1}: they do not fit"
        )


def _notes(source: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    if idle := list(idle_files(source)):
        yield f"not used: {', '.join(idle)} (the weights are those of {weight_files(source)[0]})"
    if unused := sorted(set(_sampling(model)) - _USED):
        yield f"{GENERATION}: {', '.join(unused)}: not used, replies are drawn from the model's own distribution"
    if more := end_tokens(model, tokenizer)[1:]:
        shown = ", ".join(repr(printable(str(tokenizer.convert_ids_to_tokens(token)))) for token in more)
        yield f"replies end at {shown} too, as its configs say, beside the tokenizer's {tokenizer.eos_token!r}"


def _sampling(model: PreTrainedModel) -> Iterable[str]:
    config = getattr(model, "generation_config", None)
    return () if config is None else config.to_diff_dict()


def _say(source: Path, notes: Iterable[str]) -> None:
    for note in notes:
        sys.stderr.write(f"base: {source}: {note}\n")
