"""Make the tokenizer of the run: trained on the corpus where the base model is, else the base model's own."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlhf.core.errors import UserError
from rlhf.models.text.context import NO_LIMIT
from rlhf.models.text.context import context_of as context_in
from rlhf.models.text.model_folder import read_config

END, PAD = "<|endoftext|>", "<|pad|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE (Radford et al. 2019): every text encodes, and decodes to itself. Equal texts give equal
    bytes.

    Args:
        texts: what to learn merges from.
        vocabulary: tokens at most, the 256 bytes and two special tokens included.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    trained: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=learner, eos_token=END, bos_token=END, pad_token=PAD
    )
    return trained


def context_of(folder: Path) -> int | None:
    """Read how many tokens the model in `folder` can attend to, from its config.json; None where it names no limit.

    Raises:
        UserError: there is no config.json, or it is not JSON.
    """
    context = context_in(read_config(folder))
    return None if context == NO_LIMIT else context


def check_fits(context: int | None, max_tokens: int) -> None:
    """Check that the longest sequence and its end-of-text token fit the base model.

    Raises:
        UserError: they do not.
    """
    if context is not None and max_tokens + 1 > context:
        raise UserError(
            f"data.max_tokens: found {max_tokens}; at most {context - 1} is allowed, since the base model's context is "
            f"{context} tokens and one is for the end of the text"
        )
