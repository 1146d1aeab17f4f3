"""Sample responses to text prompts: tokenise, sample in batches, decode."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.errors import UserError
from rlhf.core.processes import current
from rlhf.core.seeding import generator
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import decode_response, encode_prompt, pad_left

Stream = tuple[int, *tuple[str | int, ...]]  # (seed, name of the stream, step, ...)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled response."""

    prompt: str
    response: str
    ended: bool  # whether the model wrote an end token
    response_ids: tuple[int, ...]  # the end token included


def sample_texts(
    backbone: Backbone,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    adapter: str | None,
    stream: Stream | None,
    batch_size: int,
) -> list[Sample]:
    """Sample one response for each prompt, in their order.

    The random numbers belong to (stream, index of the prompt), so the batch size changes no response;
    None is greedy. Processes that share a run share the batches. Raises UserError if a prompt and its response do not
    fit the context.
    """
    rows = [encode_prompt(backbone.tokenizer, prompt) for prompt in prompts]
    for number, row in enumerate(rows):
        if len(row) + sampling.max_new_tokens > backbone.context:
            raise UserError(
                f"prompt {number} has {len(row)} tokens; with {sampling.max_new_tokens} new ones it exceeds "
                f"the context of {backbone.context}"
            )
    # Prompts of like length share a batch: less padding, less time.
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def answer(batch: Sequence[int]) -> list[tuple[list[int], bool]]:
        generation = backbone.generate(
            *pad_left([rows[i] for i in batch], backbone.pad_id, backbone.device),
            sampling,
            adapter=adapter,
            uniforms=uniforms(stream, batch, sampling.max_new_tokens).to(backbone.device) if stream else None,
        )
        lengths = generation.mask.sum(1).tolist()
        columns = generation.response_ids.tolist(), lengths, generation.ended.tolist()
        return [(ids[:length], bool(ended)) for ids, length, ended in zip(*columns, strict=True)]

    samples: dict[int, Sample] = {}
    for batch, answers in zip(batches, current().map(batches, answer), strict=True):
        for i, (ids, ended) in zip(batch, answers, strict=True):
            text = decode_response(
                backbone.tokenizer, ids[: len(ids) - ended]
            )  # an end token need not be a special one
            samples[i] = Sample(prompts[i], text, ended, tuple(ids))
    return [samples[i] for i in range(len(prompts))]


def uniforms(stream: Stream, indices: Sequence[int], width: int) -> Float[Tensor, "B R"]:
    """Draw the random numbers in [0, 1) of the prompts at `indices`, one for each of `width` tokens."""
    seed, *name = stream
    return torch.stack([torch.rand(width, generator=generator(seed, *name, index)) for index in indices])
