"""Reading tokenizers and causal language models from a local folder.

Nothing here reaches a network: `base` makes the model local first. Weights are safetensors only, and
code that lies beside a checkpoint is never run.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from rlhf.core.errors import UserError
from rlhf.core.products import through_onednn
from rlhf.models.text.chat_mark import read_note

# peft asks transformers 5 for a name that it will drop in 6; nothing for the reader of a run.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
logging.disable_progress_bar()  # the library's own "Loading weights" bars; stages have theirs

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")


def load_tokenizer(folder: Path, *, noted: bool = True) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`, and make sure that it has an EOS and a pad token.

    A missing pad token becomes the unknown token where that is not EOS, else EOS. This is safe because masks come from
    lengths everywhere and never from ids. Where a run writes its prompts by the chat template, it ends replies as that
    does (`chat_mark`); `noted` False leaves the note of an earlier run beside a source unread.

    Raises:
        UserError: there is no tokenizer, or it has no EOS.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; a tokenizer in save_pretrained form is needed there")
    # Without its files transformers 5 makes an empty tokenizer from the model's config instead of failing.
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer; one of {', '.join(_TOKENIZER_FILES)} is needed there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: no readable tokenizer ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no eos_token; responses could never end")
    if tokenizer.pad_token_id is None:
        unknown = tokenizer.unk_token
        tokenizer.pad_token = tokenizer.eos_token if unknown in (None, tokenizer.eos_token) else unknown
    if noted:
        read_note(tokenizer, folder)
    return tokenizer


def load_model(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> PreTrainedModel:
    """Load the causal language model in `folder`, frozen, in eval mode, every dropout 0.

    Raises:
        UserError: config or safetensors weights are missing or do not fit; it names the folder.
    """
    check_model_folder(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot load the model ({_first_line(error)})") from error
    model, found = loaded
    if found["missing_keys"]:  # the library would make them up at random and go on
        raise UserError(
            f"{folder}: the weights lack {len(found['missing_keys'])} tensors, {min(found['missing_keys'])} first"
        )
    remove_dropout(model)
    through_onednn(model)
    frozen: PreTrainedModel = model.to(device).eval().requires_grad_(False)
    return frozen


def check_model_folder(folder: Path) -> None:
    """Check that `folder` holds a config and safetensors weights; cheap, nothing is read.

    Raises:
        UserError: it does not.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; a model in save_pretrained form is needed there")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json; a model in save_pretrained form is needed there")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickled:
        raise UserError(f"{folder}: weights only as {pickled[0]}, which is pickle; convert them to safetensors")
    raise UserError(f"{folder}: no weights; model.safetensors is needed there")


def remove_dropout(model: nn.Module) -> None:
    """Set every dropout to 0, so that train mode and eval mode compute the same."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "attn_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def refuse_scaled_logits(config: Any) -> None:
    """Refuse architectures that scale or cap the head's output in their own forward, which is not called here.

    Raises:
        UserError: this one does.
    """
    for key in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1.0):
            raise UserError(f"{config.model_type}: {key} changes the logits; this architecture is not supported")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
