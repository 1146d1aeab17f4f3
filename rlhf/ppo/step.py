"""One iteration of PPO, which reads as the algorithm.

Where it departs from the textbook (Schulman et al. 2017, arXiv 1707.06347) and from trl 1.12, the last trl with PPO:
- A response is an episode. It earns its score at its last real token (trl: one position after an early end, where it
  trains the value as well), less a KL penalty at every token (textbook: a KL term in the loss, or none).
- The value after the last token is 0, also where a response was cut off (textbook: the value of the state reached).
- Advantages are whitened over the batch's real tokens, by the biased variance (trl: unbiased; textbook: not at all).
- The value loss is clipped, and moves the value head alone unless `ppo.value_backprop` is on; no entropy bonus.
- The value head sits on the policy's backbone (trl: a second model, by default). Head and policy each have a learning
  rate and a limit of the gradient's norm of their own (textbook: one loss, one rate).
- Sampling knows a temperature, no top-k or top-p, and each token has its own random number: no batch size changes it.
- Every iteration checks that the first ratio is 1, so that sampler and training pass cannot drift apart unseen.
The reasons are in docs/adr/0008; tests/ppo/test_parity_trl.py compares the numbers with trl's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.runtime import Runtime
from rlhf.ppo.actors import Actors
from rlhf.ppo.advantages import estimate_advantages
from rlhf.ppo.guards import Limits, check_rollout, check_sampler
from rlhf.ppo.kl import ESTIMATORS
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream
from rlhf.ppo.rewards import effective_scores, token_rewards, whiten_rewards
from rlhf.ppo.rollout import measure, respond, score
from rlhf.ppo.sharded import in_shards
from rlhf.ppo.state import Progress
from rlhf.ppo.types import Advantages, Measures, PPOStats, Prompt, Rollout
from rlhf.ppo.update import update


@dataclass(frozen=True)
class Setup:
    """Everything that stays the same from iteration to iteration."""

    actors: Actors
    learner: Learner
    prompts: PromptStream
    params: PPOParams
    runtime: Runtime

    def uniforms(self, iteration: int) -> Float[Tensor, "B R"]:
        """Draw the random numbers of one iteration's samples, in [0, 1); they depend on seed and iteration alone."""
        shape = (self.params.batch, self.params.response_tokens)
        return torch.rand(shape, generator=self.runtime.generator("ppo", "sample", iteration))

    def check_policy(self, now: Measures, last_score: float | None) -> None:
        """Check the policy by the episodes that it sampled; `last_score` is the mean score of the iteration before.

        Raises:
            Tripped: a guard says stop (`guards.check_rollout`).
            SelfCheckError: the sampler's logprobs are not those of the forward pass.
        """
        limits = Limits(self.params.kl_limit, self.params.entropy_floor, self.params.score_jump)
        check_rollout(now, last_score, limits)
        check_sampler(now.sampler_gap, tolerance=self.params.sampler_tolerance, temperature=self.params.temperature)


@dataclass(frozen=True, slots=True)
class Experience:
    """A batch of episodes with all that learning needs."""

    rollout: Rollout
    advantages: Advantages
    measures: Measures


def step(setup: Setup, progress: Progress) -> tuple[Experience, PPOStats]:
    """Run one iteration: respond, get reference logprobs and scores, make rewards and advantages, update.

    It moves the learner's weights; `progress` is read only.

    Raises:
        Tripped: a guard says stop, before the update or in it (`Tripped.by_update`).
        SelfCheckError: forward passes disagree.
    """
    made = explore(setup, progress, progress.iteration)
    setup.check_policy(made.measures, progress.last_score)
    stats = update(
        setup.actors,
        setup.learner,
        made.rollout,
        made.advantages,
        params=setup.params,
        stream=(setup.runtime.seed, progress.iteration),
        processes=setup.runtime.processes,
    )
    return made, stats


def explore(setup: Setup, progress: Progress, iteration: int) -> Experience:
    """Gather experience on the prompts and random numbers of `iteration`, with the current KL coefficient."""
    prompts = setup.prompts.batch(iteration, setup.params.batch)
    return experience(setup, prompts, setup.uniforms(iteration), progress.kl_coef)


def experience(setup: Setup, prompts: Sequence[Prompt], uniforms: Float[Tensor, "B R"], kl_coef: float) -> Experience:
    """Sample with the current policy, score, and compute per-token rewards and advantages.

    `kl_coef`: reward units a nat. Nothing is moved and no gradient is kept.
    """
    params, actors = setup.params, setup.actors
    temperature, microbatch = params.temperature, params.microbatch
    rescore = params.rescore == "always" or (params.rescore == "auto" and setup.runtime.dtype != torch.float32)

    def sample(prompts: Sequence[Prompt], uniforms: Float[Tensor, "N R"]) -> Rollout:
        answers = respond(
            actors, prompts, uniforms=uniforms, temperature=temperature, microbatch=microbatch, rescore=rescore
        )
        return score(actors, answers, temperature=temperature, microbatch=microbatch)

    rollout = in_shards(
        actors, prompts, uniforms, shards=params.shards, processes=setup.runtime.processes, sample=sample
    )
    answers = rollout.answers
    scores = effective_scores(
        rollout.scores,
        answers.ended,
        clip=params.score_clip,
        missing_eos=params.missing_eos,
        penalty=params.missing_eos_penalty,
    )
    penalties = kl_coef * ESTIMATORS[params.kl_estimator](answers.logprobs, rollout.ref_logprobs)
    rewards = token_rewards(scores, penalties, rollout.mask)
    advantages = estimate_advantages(
        whiten_rewards(rewards, rollout.mask) if params.whiten_rewards else rewards,
        answers.values,
        rollout.mask,
        gamma=params.gamma,
        lam=params.lam,
        whitened=params.whiten_advantages,
    )
    return Experience(rollout, advantages, measure(rollout, advantages, rewards=rewards))
