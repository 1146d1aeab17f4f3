"""Keep a dialogue with each policy, in the form of the training prompts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf.chat.load import Cast
from rlhf.chat.measure import Measured, measure
from rlhf.chat.streaming import ReplyStream
from rlhf.core.conversation import Turn, labelled, turn_break
from rlhf.core.errors import UserError
from rlhf.models.policy.sampling import Sample
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.chat_mark import has_tokens
from rlhf.models.text.chat_template import ChatTemplate, UnwritableError
from rlhf.models.text.control import as_plain, control_tokens, unsigned
from rlhf.models.text.load import load_tokenizer
from rlhf.models.text.tokens import encode_prompt

_TURN = "\n\nHuman: {prompt}\n\nAssistant:"


@dataclass(frozen=True, slots=True)
class Settings:
    """How replies are sampled: longest in tokens, temperature > 0, seed."""

    max_new_tokens: int
    temperature: float
    seed: int


@dataclass
class Dialogue:
    """One history for each policy, which holds its own replies. All policies draw with the same random numbers, so that
    equal policies give equal replies."""

    cast: Cast
    settings: Settings
    template: str | ChatTemplate  # makes a turn of what a person says ({prompt} stands for it), or writes all turns
    turn: int = 0
    turns: dict[str, tuple[Turn, ...]] = field(default_factory=dict)
    histories: dict[str, str] = field(default_factory=dict)  # the turns as the policy read and wrote them
    last: dict[str, Sample] = field(default_factory=dict)

    def ask(self, text: str) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield each policy's name with its reply as it is made. A history is extended once its reply has been read.

        Raises:
            UserError: the text alone leaves no room for a reply.
        """
        self.last = {}
        for name in self.cast.adapters:
            yield name, self._reply(name, Turn("user", text.strip()))
        self.turn += 1

    def conversation(self, name: str) -> str:
        """Return what was said to and by a policy, turn by turn, each under its role."""
        return labelled(self.turns.get(name, ()))

    def measured(self) -> dict[str, Measured]:
        """Measure reward and KL of the last replies."""
        cast = self.cast
        return {
            name: measure(
                cast.backbone, cast.scorer, sample, adapter=cast.adapters[name], temperature=self.settings.temperature
            )
            for name, sample in self.last.items()
        }

    def reset(self) -> None:
        """Forget everything that was said."""
        self.turn, self.turns, self.histories, self.last = 0, {}, {}, {}

    def _reply(self, name: str, asked: Turn) -> Iterator[str]:
        settings = self.settings
        turns = self._fitting((*self.turns.get(name, ()), asked))
        prompt = self._written(turns)
        stream = ReplyStream(
            self.cast.backbone,
            prompt,
            self.cast.adapters[name],
            Sampling(settings.max_new_tokens, settings.temperature),
            (settings.seed, "chat", self.turn),
        )
        yield from stream
        self.last[name] = stream.sample
        response = stream.sample.response
        content = response if isinstance(self.template, str) else self.template.content(response)
        self.turns[name] = (*turns, Turn("assistant", content))
        self.histories[name] = unsigned(prompt) + response

    def _written(self, turns: Sequence[Turn]) -> str:
        """Write a prompt from turns: what people say is plain text, whatever tokens it names."""
        if not isinstance(self.template, str):
            try:
                return self.template.prompt(turns)
            except UnwritableError as error:
                raise UserError(str(error)) from error
        tokenizer = self.cast.backbone.tokenizer
        names = control_tokens(tokenizer) if has_tokens(tokenizer) else ()
        contents = [as_plain(turn.content, names) for turn in turns]
        return "".join(
            (turn_break(self.template) if number else "") + self.template.replace("{prompt}", content)
            if turn.role == "user"
            else content
            for number, (turn, content) in enumerate(zip(turns, contents, strict=True))
        )

    def _fitting(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """Drop the oldest questions with their replies where the dialogue does not fit the context."""
        backbone, room = self.cast.backbone, self.cast.backbone.context - self.settings.max_new_tokens
        while len(encode_prompt(backbone.tokenizer, self._written(turns))) > room:
            if len(turns) == 1:
                raise UserError(
                    f"this turn leaves no room for {self.settings.max_new_tokens} tokens in a context of "
                    f"{backbone.context}"
                )
            turns = turns[2:]
        return turns


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
