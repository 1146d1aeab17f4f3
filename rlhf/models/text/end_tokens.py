"""The tokens that end a reply: the tokenizer's EOS, and all that the model's configs name."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.models.text.chat_mark import end_id


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Collect the ids at which replies end: first the one that replies are taught to end with, the tokenizer's EOS or
    the chat template's own end of a turn.

    Instruct models name several, as a list in config.json or in generation_config.json; transformers' `generate` stops
    at each of them. Ids that the model cannot say (beyond its embedding) are left out.

    Raises:
        UserError: a config names something else than ids.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    named: list[int] = [end_id(tokenizer), int(tokenizer.eos_token_id)]
    for config in (model.config.get_text_config(), model.config, getattr(model, "generation_config", None)):
        named += _ids(getattr(config, "eos_token_id", None), model)
    return tuple(dict.fromkeys(token for token in named if 0 <= token < rows))


def _ids(value: Any, model: Any) -> list[int]:
    listed = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    for token in listed:
        if not isinstance(token, int) or isinstance(token, bool):
            folder = getattr(model.config, "name_or_path", "") or type(model).__name__
            raise UserError(f"{folder}: eos_token_id: found {value!r}; a token id or a list of them is needed")
    return listed
