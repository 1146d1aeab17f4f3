"""Keep a dialogue with each policy, in the form of the training prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlhf.chat.load import Cast
from rlhf.chat.measure import Measured, measure
from rlhf.chat.streaming import ReplyStream
from rlhf.core.conversation import Turn, labelled
from rlhf.core.errors import UserError
from rlhf.models.policy.sampling import Sample
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.chat_template import ChatTemplate
from rlhf.models.text.control import unsigned
from rlhf.models.text.spoken import write_turns
from rlhf.models.text.tokens import encode_prompt


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
        return write_turns(turns, self.template, self.cast.backbone.tokenizer)

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
