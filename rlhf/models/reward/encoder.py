"""A frozen sentence encoder: texts in, one vector each out, by the mean over the states of their tokens.

Weights are safetensors only, code beside them is never run, and nothing is fetched. Computed in float32 whatever the
run's precision: a judge should not round more than it must, and an encoder is small.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from rlhf.core.errors import UserError
from rlhf.core.products import through_onednn
from rlhf.models.reward.encoder_folder import EncoderFolder, check_encoder_folder, sha256_of
from rlhf.models.text.eval_mode import stay_in_eval
from rlhf.models.text.one_line import in_one_line
from rlhf.models.text.stored import check_finite, check_stored

Ids = tuple[int, ...]
Keep = Literal["start", "end"]  # of a text that is too long
# What stands on top of an encoder and never enters the mean over tokens; old checkpoints keep their positions too.
_ABOVE = ("pooler.", "cls.", "lm_head.", "classifier.", "qa_outputs.", "vocab_", "predictions.", "generator_",
          "discriminator_predictions.", "embeddings.position_ids")  # fmt: skip
_SMALLEST = 1e-12  # a norm is taken for no less, as sentence-transformers does


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as the encoder reads it, special tokens included."""

    ids: Ids
    cut: bool  # whether word pieces were left out to make it fit


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """An encoder, frozen. D: its width."""

    folder: EncoderFolder
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    before: Ids  # special tokens that open a text
    after: Ids  # and close it
    sha256: str  # of the files, before they were loaded

    @classmethod
    def load(cls, folder: Path) -> "SentenceEncoder":
        """Load the encoder on the CPU, and try it on one text of the longest length.

        Raises:
            UserError: as `check_encoder_folder`; weights that lack a tensor, have one too many, do not fit the config,
                are stored as codes or not finite; a tokenizer that cannot be read or has ids that the model has not.
        """
        about = check_encoder_folder(folder)
        digest = sha256_of(about)
        tokenizer = _load_tokenizer(folder)
        model = _load_model(folder)
        _check_ids(tokenizer, model, folder)
        with in_one_line(f"{folder}: the tokenizer cannot encode"):
            before, after = _specials(tokenizer)
        encoder = cls(about, model, tokenizer, before, after, digest)
        if not before and not after:
            raise UserError(f"{folder}: the tokenizer puts no token around a text, so that an empty reply has none")
        if len(before) + len(after) >= about.max_tokens:
            raise UserError(f"{folder}: texts of {about.max_tokens} word pieces are taken up by special tokens")
        with in_one_line(f"{folder}: cannot encode a text of {about.max_tokens} word pieces"):
            longest = encoder.embed([encoder.encode("a " * about.max_tokens, keep="start").ids])
        if not bool(torch.isfinite(longest).all()):
            raise UserError(f"{folder}: the embedding of a text is not finite")
        return encoder

    @property
    def width(self) -> int:
        """Return D, how many numbers an embedding has."""
        return int(self.model.config.hidden_size)

    @property
    def name(self) -> str:
        """Describe the encoder in a few words: family, layers, width."""
        layers = int(self.model.config.num_hidden_layers)
        return f"{self.folder.kind}, {layers} layers, {self.width} wide, texts of {self.folder.max_tokens} word pieces"

    def encode(self, text: str, *, keep: Keep) -> Encoded:
        """Turn a text into ids. White space at its ends does not count, and names of special tokens in it are words
        like any other. Of one that is too long the start or the end is kept."""
        text = text.strip().lower() if self.folder.lower else text.strip()
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids, room = list(found["input_ids"]), self.folder.max_tokens - len(self.before) - len(self.after)
        kept = ids[:room] if keep == "start" else ids[max(0, len(ids) - room) :]
        return Encoded((*self.before, *kept, *self.after), len(ids) > room)

    @torch.no_grad()
    def embed(self, rows: Sequence[Ids]) -> Float[Tensor, "B D"]:
        """Compute the embeddings (float32, on the CPU) of one batch of texts: the mean of the last states over the real
        tokens, special ones included, of length 1 where the layout says so (Reimers & Gurevych 2019, section 3)."""
        width, device = max(map(len, rows)), self.model.device
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(width, device=device) < lengths[:, None]
        states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        mean: Tensor = ((states * mask[:, :, None]).sum(1) / lengths[:, None]).cpu()
        if not self.folder.normalise:
            return mean
        # Roots one by one: that of a tensor differs between processors (docs/portable.md).
        norms = [max(math.sqrt(square), _SMALLEST) for square in mean.square().sum(1).tolist()]
        unit: Tensor = mean / torch.tensor(norms)[:, None]
        return unit


def _load_model(folder: Path) -> PreTrainedModel:
    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # what its table of tensors lists is looked at below
    try:
        with in_one_line(f"{folder}: cannot load the encoder"):
            loaded: Any = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
    finally:
        logging.set_verbosity(level)
    model, found = loaded
    _check_complete(model, found, folder)
    check_stored(folder, model)
    if getattr(model, "pooler", None) is not None:  # made up where the weights have none, and never read here
        model.pooler = None
    check_finite(model, folder)
    through_onednn(model)
    model = model.requires_grad_(False)
    stay_in_eval(model)
    frozen: PreTrainedModel = model
    return frozen


def _check_complete(model: PreTrainedModel, found: dict[str, Any], folder: Path) -> None:
    """Refuse weights that the library would make up, or would leave out, and go on."""
    if missing := sorted(name for name in found["missing_keys"] if not name.startswith(_ABOVE)):
        raise UserError(f"{folder}: the weights lack {len(missing)} tensors, {missing[0]} first")
    prefix = f"{model.base_model_prefix}."
    idle = sorted(name for name in found["unexpected_keys"] if not name.removeprefix(prefix).startswith(_ABOVE))
    if idle:
        raise UserError(
            f"{folder}: the config has no place for {len(idle)} of the tensors in the weights, {idle[0]} first: "
            "config.json is of another model"
        )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    with in_one_line(f"{folder}: no readable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.model_max_length = 2**30  # texts are cut here, and counted; it need not warn
        tokenizer.backend_tokenizer.no_truncation()  # nor cut or pad as tokenizer.json may say
        tokenizer.backend_tokenizer.no_padding()
        tokenizer("a")
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _specials(tokenizer: PreTrainedTokenizerBase) -> tuple[Ids, Ids]:
    """Find what the tokenizer puts before and behind a text."""
    alone, whole = (list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (False, True))
    for start in range(len(whole) - len(alone) + 1):
        if alone and whole[start : start + len(alone)] == alone:
            return tuple(whole[:start]), tuple(whole[start + len(alone) :])
    raise ValueError(f"found {whole} for 'a' with special tokens and {alone} without")


def _check_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, folder: Path) -> None:
    rows = int(next(model.get_input_embeddings().parameters()).shape[0])
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if largest >= rows:
        raise UserError(
            f"{folder}: the tokenizer gives {token!r} the id {largest}, the encoder's embedding ends at {rows - 1}: "
            "they do not fit"
        )
