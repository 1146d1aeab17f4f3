"""Reading tokenizers and causal language models from a local folder.

Nothing here reaches a network: `base` makes the model local first. Weights are safetensors only, and
code that lies beside a checkpoint is never run.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from rlhf.core.errors import UserError
from rlhf.core.products import through_onednn
from rlhf.models.text.chat_mark import read_note
from rlhf.models.text.eval_mode import stay_in_eval
from rlhf.models.text.model_folder import check_inside, check_model_folder
from rlhf.models.text.one_line import in_one_line

# peft asks transformers 5 for a name that it will drop in 6; nothing for the reader of a run.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
logging.disable_progress_bar()  # the library's own "Loading weights" bars; stages have theirs

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
_CONSTANT = re.compile(r"\.masked_bias$")  # a number that old checkpoints keep beside their masks; no weight
_LISTED = 3  # tensors that an error names


def load_tokenizer(folder: Path, *, noted: bool = True) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`, and make sure that it has an EOS and a pad token.

    A missing pad token becomes the unknown token where that is not EOS, else EOS. This is safe because masks come from
    lengths everywhere and never from ids. Where a run writes its prompts by the chat template, it ends replies as that
    does (`chat_mark`); `noted` False leaves the note of an earlier run beside a source unread.

    Raises:
        UserError: there is no tokenizer, it cannot be read, or it has no EOS.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; a tokenizer in save_pretrained form is needed there")
    # Without its files transformers 5 makes an empty tokenizer from the model's config instead of failing.
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer; one of {', '.join(_TOKENIZER_FILES)} is needed there")
    check_inside(folder)
    with in_one_line(f"{folder}: no readable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        end, unknown = tokenizer.eos_token_id, tokenizer.unk_token
        if end is None:
            raise UserError(f"{folder}: the tokenizer has no eos_token; responses could never end")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token if unknown in (None, tokenizer.eos_token) else unknown
        if noted:
            read_note(tokenizer, folder)
        tokenizer("a")  # what some cannot do without a package, they say here
    return tokenizer


def load_model(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> PreTrainedModel:
    """Load the causal language model in `folder`, frozen, in eval mode for good (`stay_in_eval`).

    Raises:
        UserError: what `check_model_folder` refuses; a loader's error, whatever its class; tensors that the weights
            lack, or that the model has no place for. One line that names the folder.
    """
    check_model_folder(folder)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of tensors says "can be ignored"; what it lists is refused below
    try:
        with in_one_line(f"{folder}: cannot load the model"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
            model, found = loaded
            _check_complete(found, folder)
            through_onednn(model)
            model = model.to(device).requires_grad_(False)
    finally:
        logging.set_verbosity(level)
    stay_in_eval(model)
    frozen: PreTrainedModel = model
    return frozen


def _check_complete(found: dict[str, Any], folder: Path) -> None:
    """Refuse weights that the library would make up, or would leave out, and go on."""
    if missing := sorted(found["missing_keys"]):
        raise UserError(f"{folder}: the weights lack {len(missing)} tensors, {missing[0]} first")
    if idle := sorted(name for name in found["unexpected_keys"] if not _CONSTANT.search(name)):
        names = ", ".join(idle[:_LISTED]) + (", …" if len(idle) > _LISTED else "")
        raise UserError(
            f"{folder}: the config has no place for {len(idle)} of the tensors in the weights ({names}): "
            "config.json is of another model"
        )
