"""The update: epochs over the batch, in minibatches, each in micro-batches that fit in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlhf.core.masked import keep
from rlhf.core.processes import ALONE, Processes
from rlhf.core.seeding import generator
from rlhf.ppo.actors import POLICY, Actors
from rlhf.ppo.guards import check_first_minibatch, check_loss
from rlhf.ppo.learner import Learner
from rlhf.ppo.losses import approx_kl, clip_fraction, policy_loss, ratio_gap, value_loss
from rlhf.ppo.params import PPOParams
from rlhf.ppo.types import Advantages, PPOStats, Rollout


@dataclass(frozen=True, slots=True)
class MinibatchStats:
    """What the pass over a minibatch found before its weights were applied: means over its real tokens."""

    policy_loss: float
    value_loss: float
    clip_fraction: float
    approx_kl: float  # nats a token
    ratio_gap: float  # the largest |ratio - 1|, not a mean


@dataclass(frozen=True, slots=True)
class MicrobatchStats:
    """The same of one micro-batch, as scalars that stay on their device, without gradients."""

    share: Float[Tensor, ""]  # of the minibatch's real tokens
    policy_loss: Float[Tensor, ""]
    value_loss: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    approx_kl: Float[Tensor, ""]
    ratio_gap: Float[Tensor, ""]


def update(
    actors: Actors,
    learner: Learner,
    rollout: Rollout,
    advantages: Advantages,
    *,
    params: PPOParams,
    stream: tuple[int, int],
    processes: Processes = ALONE,
) -> PPOStats:
    """Pass over the batch `epochs` times, each time in a new order; Adam moves the weights after every minibatch.

    `stream` is (seed, iteration), from which the orders derive. The pass over the very first minibatch is the
    self-check. With `approx_kl_stop` a minibatch that finds the policy too far from the one that sampled is not
    applied and ends the update.

    Raises:
        Tripped: a loss or gradient is not finite; the weights are those of the minibatch before.
        SelfCheckError: the ratio is not 1 before anything was applied.
    """
    seed, iteration = stream
    done: list[MinibatchStats] = []
    norms: list[float] = []
    for epoch in range(params.epochs):
        order = torch.randperm(params.batch, generator=generator(seed, "ppo", "shuffle", iteration, epoch))
        for index in torch.split(order.to(rollout.mask.device), params.minibatch):
            stats = accumulate_gradients(
                actors, learner, rollout, advantages, index=index, params=params, processes=processes
            )
            if not done:
                check_first_minibatch(
                    stats.ratio_gap,
                    stats.approx_kl,
                    tolerance=params.ratio_tolerance,
                    temperature=params.temperature,
                )
            done.append(stats)
            if params.approx_kl_stop is not None and stats.approx_kl > params.approx_kl_stop:
                return _summary(done, norms)
            norms.append(learner.apply())
    return _summary(done, norms)


def accumulate_gradients(
    actors: Actors,
    learner: Learner,
    rollout: Rollout,
    advantages: Advantages,
    *,
    index: Int[Tensor, " N"],
    params: PPOParams,
    processes: Processes = ALONE,
) -> MinibatchStats:
    """Leave the gradients of policy loss + value_coef * value loss over the minibatch `index` on the weights.

    Losses are means over the real tokens of the whole minibatch: each micro-batch counts by its share of them, so that
    its size changes memory and nothing else. The minibatch is cut into `ppo.shards` equal parts in order; the gradients
    of the parts are summed in one tree (`Processes.tree_sum`), whichever process has made them.

    Raises:
        Tripped: a loss is not finite.
    """
    tokens = rollout.mask[index].sum()
    shards = index.view(params.shards, -1)
    found: list[Tensor] = []  # of this process's shards, in order

    def gradient(shard: int) -> Tensor:
        learner.clear()
        made: list[MicrobatchStats] = []
        for some in torch.split(shards[shard], params.microbatch):
            loss, part = _microbatch(actors, rollout, advantages, index=some, tokens=tokens, params=params)
            (loss * part.share).backward()
            made.append(part)
        found.append(_sums(made))
        return learner.gradient()

    learner.set_gradient(processes.tree_sum(params.shards, gradient))
    sums = torch.cat(processes.gather(torch.stack(found)))
    policy, value, clipped, kl = (_total(column) for column in sums[:, :-1].unbind(dim=1))
    stats = MinibatchStats(policy, value, clipped, kl, ratio_gap=sums[:, -1].amax().item())
    check_loss(stats.policy_loss)
    check_loss(stats.value_loss)
    return stats


def _microbatch(
    actors: Actors,
    rollout: Rollout,
    advantages: Advantages,
    *,
    index: Int[Tensor, " N"],
    tokens: Int[Tensor, ""],
    params: PPOParams,
) -> tuple[Float[Tensor, ""], MicrobatchStats]:
    """Compute policy loss + value_coef * value loss of the episodes `index`, with gradients, and their statistics.

    `tokens`: how many real tokens the whole minibatch has.
    """
    answers = rollout.answers
    episodes = answers.episodes.select(index)
    mask, old_logprobs, weights = episodes.mask, answers.logprobs[index], advantages.advantages[index]
    forward = actors.backbone.forward(episodes, adapter=POLICY, temperature=params.temperature, states="response")
    logprobs, hidden = forward.logprobs, forward.hidden if params.value_backprop else forward.hidden.detach()
    values = keep(actors.value_head(hidden, episodes.prompt_ids.shape[1]), mask)
    first = policy_loss(
        logprobs, old_logprobs=old_logprobs, advantages=weights, mask=mask, clip_ratio=params.clip_ratio
    )
    second = value_loss(
        values, old_values=answers.values[index], returns=advantages.returns[index], mask=mask, clip=params.value_clip
    )
    now = logprobs.detach()
    stats = MicrobatchStats(
        share=mask.sum() / tokens,
        policy_loss=first.detach(),
        value_loss=second.detach(),
        clip_fraction=clip_fraction(
            now, old_logprobs=old_logprobs, advantages=weights, mask=mask, clip_ratio=params.clip_ratio
        ),
        approx_kl=approx_kl(now, old_logprobs=old_logprobs, mask=mask),
        ratio_gap=ratio_gap(now, old_logprobs=old_logprobs, mask=mask),
    )
    return first + params.value_coef * second, stats


def _sums(parts: Sequence[MicrobatchStats]) -> Float[Tensor, "5"]:
    """Add up what the micro-batches of a shard found, by their shares, one after another; of ratio_gap, the largest."""
    names = ("policy_loss", "value_loss", "clip_fraction", "approx_kl")
    totals = [sum((getattr(part, name) * part.share for part in parts), torch.zeros(())) for name in names]
    return torch.stack([*totals, torch.stack([part.ratio_gap for part in parts]).amax()])


def _total(numbers: Iterable[Tensor]) -> float:
    """Sum scalars on their device, one after another: the same order of additions for any number of them."""
    return sum(numbers, torch.zeros(())).item()


def _summary(done: Sequence[MinibatchStats], norms: Sequence[float]) -> PPOStats:
    """Average over the minibatches; `norms` are those of the ones that were applied."""
    return PPOStats(
        policy_loss=sum(stats.policy_loss for stats in done) / len(done),
        value_loss=sum(stats.value_loss for stats in done) / len(done),
        clip_fraction=sum(stats.clip_fraction for stats in done) / len(done),
        approx_kl=sum(stats.approx_kl for stats in done) / len(done),
        grad_norm=sum(norms) / max(len(norms), 1),
        minibatches=len(norms),
        first_ratio_gap=done[0].ratio_gap,
        first_approx_kl=done[0].approx_kl,
    )
