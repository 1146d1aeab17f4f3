"""Gather a rollout shard by shard: the same numbers for any number of processes that share the shards.

Prompts and random numbers are those of the whole batch on every process, cut by row. A shard is sampled and scored by
itself: products over other numbers of rows round otherwise, so the unit of work is fixed by `ppo.shards` and never by
the number of processes. What is gathered is a few numbers a token; afterwards every process has the whole rollout, and
rewards, advantages, whitening, guards and controllers need no word between processes.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.processes import Processes
from rlhf.models.text.tokens import Episodes, pad_left
from rlhf.ppo.actors import Actors, parts
from rlhf.ppo.types import Answers, Prompt, Rollout

_BY_TOKEN = ("sampler_logprobs", "logprobs", "entropy", "values")  # of Answers


def in_shards(
    actors: Actors,
    prompts: Sequence[Prompt],
    uniforms: Float[Tensor, "B R"],
    *,
    shards: int,
    processes: Processes,
    sample: Callable[[Sequence[Prompt], Tensor], Rollout],
) -> Rollout:
    """Let `sample` make the rollout of each shard of this process, and return that of the whole batch.

    `sample` gets a shard's prompts and its rows of `uniforms`. One shard is the whole batch, as it is.
    """
    if shards == 1:
        return sample(prompts, uniforms)
    cut = parts(len(prompts), shards)
    done = [sample(prompts[at], uniforms[at]) for at in (cut[i] for i in processes.own(shards)) if at.start < at.stop]
    width = uniforms.shape[1]
    mine = [_table(rollout, width) for rollout in done]
    own = torch.cat(mine) if mine else torch.zeros(0, _columns(width), dtype=torch.float64)
    counts = [cut[owned[-1]].stop - cut[owned[0]].start for owned in _owners(shards, processes)]
    padded = torch.nn.functional.pad(own, (0, 0, 0, max(counts) - len(own)))
    tables = [table[:count] for table, count in zip(processes.gather(padded), counts, strict=True)]
    return _rollout(actors, prompts, torch.cat(tables), width)


def _owners(shards: int, processes: Processes) -> list[range]:
    """List the shards of each process."""
    return [Processes(rank, processes.size).own(shards) for rank in range(processes.size)]


def _columns(width: int) -> int:
    return (3 + len(_BY_TOKEN)) * width + 2


def _table(rollout: Rollout, width: int) -> Float[Tensor, "B C"]:
    """Lay all that is gathered of a shard side by side, a row an episode, padded to `width` tokens.

    float64 holds ids, masks and float32 numbers exactly.
    """
    answers = rollout.answers
    by_token = [answers.episodes.response_ids, answers.episodes.mask, rollout.ref_logprobs]
    by_token += [getattr(answers, name) for name in _BY_TOKEN]
    padded = [torch.nn.functional.pad(each.double(), (0, width - each.shape[1])) for each in by_token]
    return torch.cat([*padded, answers.ended.double()[:, None], rollout.scores.double()[:, None]], dim=1).cpu()


def _rollout(actors: Actors, prompts: Sequence[Prompt], table: Float[Tensor, "B C"], width: int) -> Rollout:
    """Read the rollout from its table, as one sampler would have given it: no wider than the longest response."""
    backbone = actors.backbone
    *by_token, rest = table.to(backbone.device).split([width] * (3 + len(_BY_TOKEN)) + [2], dim=1)
    mask = by_token[1].bool()
    longest = int(mask.sum(1).max())
    ids, mask, reference, *others = (each[:, :longest] for each in (by_token[0], mask, *by_token[2:]))
    ids = torch.where(mask, ids.long(), torch.full_like(mask, backbone.pad_id, dtype=torch.long))
    prompt_ids, prompt_mask = pad_left([prompt.ids for prompt in prompts], backbone.pad_id, backbone.device)
    answers = Answers(
        prompts=tuple(prompts),
        episodes=Episodes(prompt_ids, prompt_mask, ids, mask),
        ended=rest[:, 0].bool(),
        **{name: each.float() for name, each in zip(_BY_TOKEN, others, strict=True)},
    )
    return Rollout(answers, reference.float(), rest[:, 1].float())
