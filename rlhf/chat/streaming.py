"""Hand over a response token by token while it is sampled."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, Stream, uniforms
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import decode_response, encode_prompt, pad_left

_HALF = "�"  # what a decoder shows for a character whose last bytes are still to come


@dataclass
class ReplyStream:
    """A response under way. Iterating gives text that can be shown as it comes; then `sample` is the whole.

    With the same stream it is the first of `sample_texts([prompt])`, token for token. UserError if prompt and response
    exceed the context.
    """

    backbone: Backbone
    prompt: str
    adapter: str | None
    sampling: Sampling
    stream: Stream
    ids: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        backbone, shown = self.backbone, ""
        numbers = uniforms(self.stream, [0], self.sampling.max_new_tokens).to(backbone.device)
        steps = backbone.steps(
            *pad_left([encode_prompt(backbone.tokenizer, self.prompt)], backbone.pad_id, backbone.device),
            self.sampling,
            adapter=self.adapter,
            uniforms=numbers,
        )
        for step in steps:
            self.ids.append(int(step.drawn.ids))
            text = self._text()
            if not text.endswith(_HALF) and text.startswith(shown):
                yield text[len(shown) :]
                shown = text
        yield self._text()[len(shown) :]

    @property
    def sample(self) -> Sample:
        """Return the response so far."""
        return Sample(self.prompt, self._text(), self._ended(), tuple(self.ids))

    def _ended(self) -> bool:
        return bool(self.ids) and self.ids[-1] in self.backbone.end_ids

    def _text(self) -> str:
        return decode_response(self.backbone.tokenizer, self.ids[: len(self.ids) - self._ended()])
