"""Write what people say to a policy in the form of its training prompts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf.core.conversation import Turn, turn_break
from rlhf.core.errors import UserError
from rlhf.models.text.chat_mark import has_tokens
from rlhf.models.text.chat_template import ChatTemplate, UnwritableError
from rlhf.models.text.control import as_plain, control_tokens
from rlhf.models.text.load import load_tokenizer

_TURN = "\n\nHuman: {prompt}\n\nAssistant:"


def turn_template(data: Mapping[str, object], base: Path) -> str | ChatTemplate:
    """Find the form of a turn by the section `data`: the chat template of the model in `base` where prompts are written
    by it, the prompt template where bare prompts are put into one, else HH's.

    Raises:
        UserError: there is no chat template.
    """
    if data.get("template") == "chat":
        return ChatTemplate.of(load_tokenizer(base), str(base))
    if data["source"] == "synthetic" or data["format"] in ("hh", "messages", "conversations"):
        return _TURN
    return "{prompt}" if data.get("template") == "raw" else str(data["prompt_template"])


def write_turns(
    turns: Sequence[Turn], template: str | ChatTemplate, tokenizer: PreTrainedTokenizerBase, *, goes_on: bool = False
) -> str:
    """Write a prompt from turns: what people say is plain text, whatever tokens it names. `goes_on`: the turns follow a
    prompt that is written already (a template of one turn alone).

    Raises:
        UserError: the chat template cannot write these turns.
    """
    if not isinstance(template, str):
        try:
            return template.prompt(turns)
        except UnwritableError as error:
            raise UserError(str(error)) from error
    names = control_tokens(tokenizer) if has_tokens(tokenizer) else ()
    contents = [as_plain(turn.content, names) for turn in turns]
    return "".join(
        (turn_break(template) if number or goes_on else "") + template.replace("{prompt}", content)
        if turn.role == "user"
        else content
        for number, (turn, content) in enumerate(zip(turns, contents, strict=True))
    )
