"""The update: epochs over the batch, in minibatches, each in micro-batches that fit in memory."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Int
from torch import Tensor

from rlhf.core.masked import keep
from rlhf.core.seeding import generator
from rlhf.ppo.actors import POLICY, Actors
from rlhf.ppo.guards import check_first_minibatch, check_loss
from rlhf.ppo.learner import Learner
from rlhf.ppo.losses import approx_kl, clip_fraction, policy_loss, ratio_gap, value_loss
from rlhf.ppo.params import PPOParams
from rlhf.ppo.types import Advantages, PPOStats, Rollout


@dataclass(frozen=True, slots=True)
class MinibatchStats:
    """Means over a minibatch's real tokens, before its weights were applied; `ratio_gap` is the largest."""

    policy_loss: float
    value_loss: float
    clip_fraction: float
    approx_kl: float
    ratio_gap: float


def update(
    actors: Actors,
    learner: Learner,
    rollout: Rollout,
    advantages: Advantages,
    *,
    params: PPOParams,
    stream: tuple[int, int],
) -> PPOStats:
    """`epochs` passes over the batch, each in a new order; Adam moves the weights after every minibatch.

    `stream` is (seed, iteration), from which the orders derive. The pass over the very first minibatch is the
    self-check. With `approx_kl_stop` a minibatch that finds the policy too far from the one that sampled is not
    applied and ends the update.

    Raises:
        Tripped: a loss or gradient is not finite; weights may be those of a minibatch before.
        SelfCheckError: the ratio is not 1 before anything was applied.
    """
    seed, iteration = stream
    done: list[MinibatchStats] = []
    norms: list[float] = []
    for epoch in range(params.epochs):
        order = torch.randperm(params.batch, generator=generator(seed, "ppo", "shuffle", iteration, epoch))
        for index in torch.split(order.to(rollout.mask.device), params.minibatch):
            stats = accumulate_gradients(actors, learner, rollout, advantages, index=index, params=params)
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
) -> MinibatchStats:
    """Gradients of policy loss + value_coef * value loss over the minibatch `index`, left on the weights.

    Losses are means over the real tokens of the whole minibatch: each micro-batch weighs by its share of them, so
    that its size changes memory and nothing else.

    Raises:
        Tripped: a loss is not finite.
    """
    learner.clear()
    tokens = rollout.mask[index].sum()
    totals: list[Tensor] = []
    for part in torch.split(index, params.microbatch):
        loss, numbers = _losses(actors, rollout, advantages, part, params)
        share = rollout.mask[part].sum() / tokens
        (loss * share).backward()
        numbers[:4] *= share
        totals.append(numbers)
    stacked = torch.stack(totals)
    stats = MinibatchStats(*torch.cat([stacked[:, :4].sum(0), stacked[:, 4:].amax(0)]).tolist())
    check_loss(stats.policy_loss)
    check_loss(stats.value_loss)
    return stats


def _losses(
    actors: Actors, rollout: Rollout, advantages: Advantages, index: Int[Tensor, " N"], params: PPOParams
) -> tuple[Tensor, Tensor]:
    """The loss of one micro-batch, with gradients, and the numbers of MinibatchStats, without."""
    answers = rollout.answers
    episodes = answers.episodes.select(index)
    mask, old_logprobs = episodes.mask, answers.logprobs[index]
    forward = actors.backbone.forward(episodes, adapter=POLICY, temperature=params.temperature, states="response")
    hidden = forward.hidden if params.value_backprop else forward.hidden.detach()
    values = keep(actors.value_head(hidden, episodes.prompt_ids.shape[1]), mask)
    old = {"old_logprobs": old_logprobs, "mask": mask}
    clipped = {**old, "advantages": advantages.advantages[index]}
    first = policy_loss(forward.logprobs, **clipped, clip_ratio=params.clip_ratio)
    second = value_loss(
        values, old_values=answers.values[index], returns=advantages.returns[index], mask=mask, clip=params.value_clip
    )
    with torch.no_grad():
        others = (
            clip_fraction(forward.logprobs, **clipped, clip_ratio=params.clip_ratio),
            approx_kl(forward.logprobs, **old),
            ratio_gap(forward.logprobs, **old),
        )
        numbers = torch.stack([first.detach(), second.detach(), *others])
    return first + params.value_coef * second, numbers


def _summary(done: list[MinibatchStats], norms: list[float]) -> PPOStats:
    means = {f.name: sum(getattr(stats, f.name) for stats in done) / len(done) for f in fields(MinibatchStats)}
    return PPOStats(
        policy_loss=means["policy_loss"],
        value_loss=means["value_loss"],
        clip_fraction=means["clip_fraction"],
        approx_kl=means["approx_kl"],
        grad_norm=sum(norms) / max(len(norms), 1),
        minibatches=len(norms),
        first_ratio_gap=done[0].ratio_gap,
        first_approx_kl=done[0].approx_kl,
    )
