"""Keep a dialogue with each policy, in the form of the training prompts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rlhf.chat.load import Cast
from rlhf.chat.measure import Measured, measure
from rlhf.chat.streaming import ReplyStream
from rlhf.core.errors import UserError
from rlhf.models.policy.sampling import Sample
from rlhf.models.policy.settings import Sampling
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
    template: str  # makes a turn of what a person says; {prompt} stands for it
    turn: int = 0
    histories: dict[str, str] = field(default_factory=dict)
    last: dict[str, Sample] = field(default_factory=dict)

    def ask(self, text: str) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield each policy's name with its reply as it is made. A history is extended once its reply has been read.

        Raises:
            UserError: the text alone leaves no room for a reply.
        """
        turn = self.template.replace("{prompt}", text.strip())
        self.last = {}
        for name in self.cast.adapters:
            yield name, self._reply(name, turn)
        self.turn += 1

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
        self.turn, self.histories, self.last = 0, {}, {}

    def _reply(self, name: str, turn: str) -> Iterator[str]:
        settings = self.settings
        prompt = self._fitting(self.histories.get(name, "") + turn, turn)
        stream = ReplyStream(
            self.cast.backbone,
            prompt,
            self.cast.adapters[name],
            Sampling(settings.max_new_tokens, settings.temperature),
            (settings.seed, "chat", self.turn),
        )
        yield from stream
        self.last[name] = stream.sample
        self.histories[name] = prompt + stream.sample.response

    def _fitting(self, prompt: str, turn: str) -> str:
        """Drop the oldest turns of a dialogue that does not fit the context; a turn begins as this one does."""
        backbone, room = self.cast.backbone, self.cast.backbone.context - self.settings.max_new_tokens
        start = self.template.partition("{prompt}")[0]
        while len(encode_prompt(backbone.tokenizer, prompt)) > room and prompt != turn:
            following = prompt.find(start, 1) if start else -1
            prompt = prompt[following:] if following > 0 else turn
        if len(encode_prompt(backbone.tokenizer, prompt)) > room:
            raise UserError(
                f"this turn leaves no room for {self.settings.max_new_tokens} tokens in a context of {backbone.context}"
            )
        return prompt


def turn_template(data: dict[str, object]) -> str:
    """Find the form of a turn by the section `data`: its template where bare prompts are put into one, else HH's."""
    made = data["source"] != "synthetic" and data["format"] not in ("hh", "messages", "conversations")
    return str(data["prompt_template"]) if made else _TURN
