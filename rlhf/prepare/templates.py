"""Write prompts and replies as the models will read them: by `data.prompt_template`, by the tokenizer's chat template,
or as they are (`data.template`: dialogue | chat | raw).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rlhf.core.conversation import Turn, role_order, turn_break
from rlhf.models.text.chat_template import ChatTemplate, UnwritableError
from rlhf.models.text.control import as_plain
from rlhf.prepare.params import DIALOGUE
from rlhf.prepare.spellings import Spelled, spelled

ASSISTANT = "\n\nAssistant:"
HUMAN = "\n\nHuman:"


class RefusedError(Exception):
    """A prompt or reply cannot be written. `rule` is one of BAD_ROW_RULES."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


@dataclass(frozen=True)
class Written:
    """A prompt as the models read it.

    `turns` is the conversation that it was written from, `labels` name the turns where it came as the text of a
    dialogue. Where the template writes control tokens, those that the data hold are signed in `text`
    (`rlhf.models.text.control`).
    """

    text: str
    turns: tuple[Turn, ...] = ()
    labels: tuple[str, ...] = ()
    asked: int = 1  # turns of the one who asks


@runtime_checkable
class Template(Protocol):
    """A way to write prompts and replies. Each raises RefusedError for what it cannot write."""

    def prompt(self, given: str | Sequence[Turn]) -> Written:
        """Write a prompt: a text, which may be a dialogue in some spelling, or turns."""
        ...

    def reply(self, prompt: Written, text: str) -> str:
        """Write a reply to it as plain text, its end token left out."""
        ...

    def markers(self, prompt: Written) -> tuple[str, ...]:
        """Name the texts that begin a turn, which no reply to this prompt should hold."""
        ...


@dataclass(frozen=True)
class Raw:
    """Every text as it is, byte for byte."""

    def prompt(self, given: str | Sequence[Turn]) -> Written:
        """Take a text, or the content of a single user's turn."""
        if not isinstance(given, str):
            if [turn.role for turn in given] != ["user"]:
                raise RefusedError(
                    "turn_order",
                    "data.template is raw, which writes texts as they are, and this is a conversation of several "
                    "turns; set it to chat or dialogue",
                )
            given = given[0].content
        return Written(given, asked=max(1, given.count(HUMAN)))

    def reply(self, prompt: Written, text: str) -> str:
        """Take the text."""
        return text

    def markers(self, prompt: Written) -> tuple[str, ...]:
        """Name those of a written dialogue."""
        return _dialogue_markers(prompt)


@dataclass(frozen=True)
class Dialogue:
    """A template with a gap for what is asked, turn after turn; white space at its seams is the template's. `control`:
    the tokenizer's control tokens where the template holds some, which must stay apart from the data's; else none."""

    template: str
    control: tuple[str, ...]

    def prompt(self, given: str | Sequence[Turn]) -> Written:
        """Put a bare question, or each turn of a dialogue in another form, into the template."""
        if not isinstance(given, str):
            return self._of_turns(tuple(given), ())
        if given.rstrip().endswith(ASSISTANT):
            return self._in_form(given.rstrip())
        bare = None if self.template == DIALOGUE else self._without_template(given)
        if bare is None and (found := spelled(given)):
            return self._of_turns(_clear(found).turns, found.labels)
        bare = given if bare is None else bare
        if not bare.strip():
            raise RefusedError("empty_prompt", "nothing is asked")
        return Written(self._asked(bare))

    def reply(self, prompt: Written, text: str) -> str:
        """Strip it, and part it from the prompt by a space where the template does not end with white space."""
        return self._seam(prompt.text) + text.strip()

    def markers(self, prompt: Written) -> tuple[str, ...]:
        """Name the last lines before and behind the gap, and those of a written dialogue."""
        if self.template == DIALOGUE:
            return _dialogue_markers(prompt, "Human", "Assistant")
        lines = [part.strip().splitlines()[-1].strip() for part in self.template.split("{prompt}") if part.strip()]
        return (*lines, *_dialogue_markers(prompt))

    def _in_form(self, text: str) -> Written:
        """Take a dialogue that ends as ours do; its first turn may be spelled otherwise."""
        found = None if text.startswith(HUMAN) else spelled(text)
        if found is not None and found.unclear is None and role_order(found.turns) is None:
            return self._of_turns(found.turns, found.labels)
        written = as_plain(text, self.control)
        return Written(written, labels=("Human", "Assistant"), asked=max(1, text.count(HUMAN)))

    def _asked(self, content: str) -> str:
        return self.template.replace("{prompt}", as_plain(content.strip(), self.control))

    def _seam(self, prompt: str) -> str:
        return "" if not prompt or prompt[-1].isspace() else " "

    def _without_template(self, text: str) -> str | None:
        """Take a text that is in the template's form already out of it; None where it is not."""
        head, tail = (part.strip() for part in self.template.split("{prompt}"))
        whole = text.strip()
        if not (head and tail and whole.startswith(head) and whole.endswith(tail)):
            return None
        inner = whole[len(head) : len(whole) - len(tail)]
        if head in inner or tail in inner:
            if (found := spelled(text)) and found.unclear is None:
                return None
            raise RefusedError(
                "unclear_dialogue",
                "the prompt is in the form of data.prompt_template already, several turns of it; give the turns apart, "
                "or set data.template to raw",
            )
        return inner

    def _of_turns(self, turns: tuple[Turn, ...], labels: tuple[str, ...]) -> Written:
        _check_order(turns)
        ours, written = self.template == DIALOGUE, ""
        tail = self.template.partition("{prompt}")[2]
        for number, turn in enumerate(turns):
            content = as_plain(turn.content.strip(), self.control)
            if turn.role != "user" and self.control:
                raise RefusedError(
                    "turn_order",
                    f"data.prompt_template has no end or place for the {turn.role}'s turn; set data.template to chat",
                )
            if turn.role == "system":
                written = content if ours else f"{content}\n\n"
            elif turn.role == "user":
                written += (turn_break(self.template) if number and turns[number - 1].role != "system" else "") + (
                    self._asked(turn.content)
                )
            elif turn.role == "assistant":
                written += self._seam(written) + content
            else:
                following = turns[number + 1].role if number + 1 < len(turns) else "assistant"
                written += f"\n\nTool: {content}" + (tail if following == "assistant" else "")
        return Written(written, labels=labels, asked=_asked_turns(turns))


@dataclass(frozen=True)
class Chat:
    """The tokenizer's own chat template."""

    template: ChatTemplate

    def prompt(self, given: str | Sequence[Turn]) -> Written:
        """Write turns; a text is a dialogue in some spelling, or else one user's turn."""
        labels: tuple[str, ...] = ()
        if not isinstance(given, str):
            turns = tuple(given)
        elif found := spelled(given):
            turns, labels = _clear(found).turns, found.labels
        else:
            turns = (Turn("user", given),)
        _check_order(turns)
        try:
            return Written(self.template.prompt(turns), turns, labels, _asked_turns(turns))
        except UnwritableError as error:
            raise RefusedError("chat_template", str(error)) from error

    def reply(self, prompt: Written, text: str) -> str:
        """Write the reply's turn. White space around a reply that came in a written dialogue was that dialogue's."""
        try:
            return self.template.reply(prompt.turns, text.strip() if prompt.labels else text)
        except UnwritableError as error:
            raise RefusedError("chat_template", str(error)) from error

    def markers(self, prompt: Written) -> tuple[str, ...]:
        """Name the template's own, and those of a written dialogue."""
        return (*self.template.markers, *_dialogue_markers(prompt))


def _clear(found: Spelled) -> Spelled:
    if found.unclear is not None:
        raise RefusedError("unclear_dialogue", f"prompt: {found.unclear}")
    return found


def _check_order(turns: Sequence[Turn]) -> None:
    if wrong := role_order(turns):
        raise RefusedError("turn_order", f"prompt: {wrong}")
    if not turns[-1].content.strip():
        raise RefusedError("empty_prompt", f"the last turn, the {turns[-1].role}'s, has no text")


def _asked_turns(turns: Sequence[Turn]) -> int:
    return max(1, sum(turn.role == "user" for turn in turns))


def _dialogue_markers(prompt: Written, *labels: str) -> tuple[str, ...]:
    return tuple(f"{label}:" for label in dict.fromkeys((*labels, *prompt.labels)))
