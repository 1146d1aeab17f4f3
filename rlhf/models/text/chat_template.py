"""Write conversations by the tokenizer's own chat template, and learn from it where a reply stands and what ends it.

A prompt is what `apply_chat_template(turns, add_generation_prompt=True)` writes. A reply is what the template writes
between that and the token that ends the turn, white space at the seam included.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from transformers import PreTrainedTokenizerBase

from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.core.text import printable
from rlhf.models.text.chat_mark import use_chat
from rlhf.models.text.control import as_plain, control_tokens, pattern, unsigned

# Some templates (Llama 3.1 and later) tell the model the date. A run must not depend on the day, so for them it is this
# one, which those templates name themselves where there is no clock.
TODAY = datetime(2024, 7, 26)
_ASKED, _SAID, _AGAIN = "q1w2e3r4", "t5y6u7i8", "o9p0a1s2"  # contents of a conversation that is written as a trial


class UnwritableError(Exception):
    """The chat template cannot write a conversation; the message says why."""


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template. `end` is the token that ends a reply; `before` and `after` are the white space or
    words that the template puts between a reply and the prompt before it, and between it and `end`."""

    tokenizer: PreTrainedTokenizerBase
    end: str
    before: str
    after: str
    turn_tokens: tuple[str, ...]  # all tokens that it writes
    markers: tuple[str, ...]  # of a user's and an assistant's turn, as text

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, where: str) -> "ChatTemplate":
        """Try the template on a short conversation. `where` names the tokenizer in errors.

        Raises:
            UserError: there is no template, or none by which a reply could follow a prompt and end.
        """
        refused = f"data.template: found 'chat', but the tokenizer of {where}"
        if not tokenizer.chat_template:
            raise UserError(
                f"{refused} has no chat template; put its chat_template.jinja beside it, or set data.template to "
                "dialogue or raw"
            )
        try:
            return cls._tried(tokenizer, refused)
        except UnwritableError as error:
            raise UserError(f"{refused} cannot write a question and its answer: {error}") from error

    @classmethod
    def _tried(cls, tokenizer: PreTrainedTokenizerBase, refused: str) -> "ChatTemplate":
        user, said, again = Turn("user", _ASKED), Turn("assistant", _SAID), Turn("user", _AGAIN)
        prompt = _written(tokenizer, [user], prompt=True)
        whole = _written(tokenizer, [user, said], prompt=False)
        following = _written(tokenizer, [user, said, again], prompt=True)
        if prompt.count(_ASKED) != 1 or whole.count(_SAID) != 1:
            raise UserError(f"{refused} has a chat template that does not write each turn once, as it is")
        if not whole.startswith(prompt):
            raise UserError(
                f"{refused} has a chat template whose generation prompt ends {prompt[-40:]!r}, which is not how it "
                "begins an assistant's turn; mend the template, or set data.template to dialogue or raw"
            )
        before, _, behind = whole[len(prompt) :].partition(_SAID)
        known = map(str, tokenizer.added_tokens_decoder.values())
        added = pattern(tuple(name for name in known if len(name) > 1 and name.strip()))
        special = pattern(control_tokens(tokenizer))
        if special.search(before):
            raise UserError(
                f"{refused} has a chat template without a generation prompt: it writes {before!r:.60} only with the "
                "reply; mend the template, or set data.template to dialogue or raw"
            )
        end = added.search(behind)
        if end is None and behind.strip():
            raise UserError(
                f"{refused} has a chat template that ends a reply by {behind!r:.60}, which holds no token of the "
                "tokenizer, so that no reply could end; add the token, or set data.template to dialogue or raw"
            )
        eos = str(tokenizer.eos_token)
        after, token = (behind, eos) if end is None else (behind[: end.start()], end[0])
        framing = prompt + behind + following
        tokens = tuple(sorted({*added.findall(framing), token}))
        between = whole[len(prompt) :].partition(_SAID)[2], following.partition(_SAID)[2].partition(_AGAIN)[0]
        ends = pattern(tuple({token, eos, str(tokenizer.bos_token)} - {"None"}))
        opened = (between[1], prompt.partition(_ASKED)[2] + before)
        markers = tuple(mark for text in opened if (mark := ends.sub("", text).strip()))
        use_chat(tokenizer, end=token, names=tokens)
        return cls(tokenizer, token, before, after, tokens, markers)

    def prompt(self, turns: Sequence[Turn]) -> str:
        """Write the turns and the start of the reply that is due; control tokens within them are signed as plain.

        Raises:
            UnwritableError: the template refuses the turns, or fails on them.
        """
        return _written(self.tokenizer, self._plain(turns), prompt=True)

    def reply(self, turns: Sequence[Turn], text: str) -> str:
        """Write a reply to the turns as the template does, without the token that ends it.

        Raises:
            UnwritableError: the template fails on it, or writes the question before it otherwise than in the prompt.
        """
        asked = [turn for turn in turns if turn.role == "user"][-1:]
        for before in (turns, asked):  # Mistral's moves the system's words once a reply follows: the reply is the same
            prompt = self.prompt(before)
            whole = _written(self.tokenizer, self._plain([*before, Turn("assistant", text)]), prompt=False)
            if whole.startswith(prompt):
                rest = whole[len(prompt) :]
                # In the text itself the end token would be signed.
                rest = rest.partition(self.end)[0] if self.end in rest else rest.removesuffix(self.after)
                return unsigned(rest)
        raise UnwritableError("it writes the question otherwise once a reply follows it")

    def content(self, response: str) -> str:
        """Return the content of a turn that the template writes as `response`: a sampled reply, for the turns of the
        next prompt."""
        return response.removeprefix(self.before).removesuffix(self.after)

    def _plain(self, turns: Sequence[Turn]) -> list[Turn]:
        names = control_tokens(self.tokenizer)
        return [Turn(turn.role, as_plain(turn.content, names)) for turn in turns]


def undated(template: str) -> str:
    """Give a chat template the date of the run, so that others who use it write the same prompts on any day."""
    if not re.search(r"\bstrftime_now\b", template):
        return template
    formats = dict.fromkeys(re.findall(r"strftime_now\(\s*[\"']([^\"']*)[\"']\s*\)", template))
    cases = "".join(f"{{%- if format == {one!r} -%}}{TODAY.strftime(one)}{{%- endif -%}}" for one in formats)
    return f"{{%- macro strftime_now(format) -%}}{cases}{{%- endmacro -%}}{template}"


def _written(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn], *, prompt: bool) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        template = undated(tokenizer.get_chat_template())
        written = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=prompt
        )
    except Exception as error:  # the template's own words, or whatever it stumbles over
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnwritableError(f"the chat template refuses it: {printable(lines[0])[:200]}") from error
    if not isinstance(written, str):
        raise UnwritableError("the chat template wrote no text")
    return written
