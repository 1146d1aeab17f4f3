"""One iteration of PPO, which reads as the algorithm."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.runtime import Runtime
from rlhf.ppo.actors import Actors
from rlhf.ppo.advantages import estimate_advantages
from rlhf.ppo.guards import Limits, check_rollout, check_sampler
from rlhf.ppo.kl import Controller
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream
from rlhf.ppo.rewards import effective_scores, token_rewards, whiten_rewards
from rlhf.ppo.rollout import measure, respond, score
from rlhf.ppo.types import Advantages, Measures, PPOStats, Prompt, Rollout
from rlhf.ppo.update import update


@dataclass(frozen=True)
class Setup:
    """What stays the same from step to step."""

    actors: Actors
    learner: Learner
    prompts: PromptStream
    params: PPOParams
    runtime: Runtime

    def uniforms(self, iteration: int) -> Float[Tensor, "B R"]:
        """The random numbers of one iteration's samples, a function of seed and iteration alone."""
        shape = (self.params.batch, self.params.response_tokens)
        return torch.rand(shape, generator=self.runtime.generator("ppo", "sample", iteration))

    def check_policy(self, now: Measures, last_score: float | None) -> None:
        """Raises Tripped or SelfCheckError if the policy that sampled is not sound, see `guards`."""
        limits = Limits(self.params.kl_limit, self.params.entropy_floor, self.params.score_jump)
        check_rollout(now, last_score, limits)
        check_sampler(now.sampler_gap, tolerance=self.params.sampler_tolerance, temperature=self.params.temperature)


@dataclass(frozen=True, slots=True)
class Experience:
    """A batch of episodes, made ready for learning."""

    rollout: Rollout
    advantages: Advantages
    measures: Measures


def step(
    setup: Setup, controller: Controller, last_score: float | None, *, iteration: int
) -> tuple[Experience, PPOStats, Controller]:
    """Respond, get reference logprobs and scores, make rewards and advantages, update, move the KL controller.

    `last_score` is the mean score of the iteration before. Raises Tripped or SelfCheckError, see `guards`.
    """
    prompts = setup.prompts.batch(iteration, setup.params.batch)
    episodes = experience(setup, prompts, setup.uniforms(iteration), controller.coef)
    setup.check_policy(episodes.measures, last_score)
    stats = update(
        setup.actors,
        setup.learner,
        episodes.rollout,
        episodes.advantages,
        params=setup.params,
        stream=(setup.runtime.seed, iteration),
    )
    return episodes, stats, controller.updated(episodes.measures.kl, len(prompts))


def experience(setup: Setup, prompts: Sequence[Prompt], uniforms: Float[Tensor, "B R"], kl_coef: float) -> Experience:
    """The first half of a step: what the policy answers as it is, and what each token of that earns."""
    params, actors = setup.params, setup.actors
    temperature, microbatch = params.temperature, params.microbatch
    answers = respond(
        actors,
        prompts,
        uniforms=uniforms,
        temperature=temperature,
        microbatch=microbatch,
        rescore=params.rescore == "always" or (params.rescore == "auto" and setup.runtime.dtype != torch.float32),
    )
    rollout = score(actors, answers, temperature=temperature, microbatch=microbatch)
    scores = effective_scores(
        rollout.scores,
        answers.ended,
        clip=params.score_clip,
        missing_eos=params.missing_eos,
        penalty=params.missing_eos_penalty,
    )
    rewards = token_rewards(
        scores,
        logprobs=answers.logprobs,
        ref_logprobs=rollout.ref_logprobs,
        mask=rollout.mask,
        kl_coef=kl_coef,
        estimator=params.kl_estimator,
    )
    advantages = estimate_advantages(
        whiten_rewards(rewards, rollout.mask) if params.whiten_rewards else rewards,
        answers.values,
        rollout.mask,
        gamma=params.gamma,
        lam=params.lam,
        whitened=params.whiten_advantages,
    )
    return Experience(rollout, advantages, measure(rollout, advantages, rewards=rewards))
