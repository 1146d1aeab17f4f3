"""Sample responses, score them and measure the policy that gave them. No gradients here."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.masked import keep, masked_mean, masked_sum
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes, decode_response, pad_left
from rlhf.ppo.actors import POLICY, REFERENCE, Actors, chunks
from rlhf.ppo.advantages import explained_variance
from rlhf.ppo.kl import k1, k2, k3
from rlhf.ppo.reward_sources import Scorable
from rlhf.ppo.samplers.freshness import check_fresh, holding
from rlhf.ppo.samplers.interface import Sampled
from rlhf.ppo.types import Advantages, Answers, Measures, Prompt, Rollout


@torch.no_grad()
def respond(
    actors: Actors,
    prompts: Sequence[Prompt],
    *,
    uniforms: Float[Tensor, "B R"],
    temperature: float,
    microbatch: int,
    rescore: bool,
) -> Answers:
    """Sample a response of at most R tokens to each prompt, with its logprobs, entropies and values.

    `uniforms` in [0, 1) decide the tokens (`Backbone.generate`). With `rescore`, logprobs, entropies and values come
    from the forward pass that training uses, so that the ratio starts at 1 in any precision; the sampler's logprobs are
    kept to be compared. Without it they are the sampler's, which saves that pass: in float32 the two differ by
    rounding, and the self-check of the first minibatch holds them to it. A sampler elsewhere has no states: what it
    gave is always rescored.

    Raises:
        UserError: a sampler elsewhere does not answer.
        SelfCheckError: it answers with weights that are not the newest.
    """
    backbone, sampler = actors.backbone, actors.sampler
    prompt_ids, prompt_mask = pad_left([prompt.ids for prompt in prompts], backbone.pad_id, backbone.device)
    sampler.publish(POLICY)
    sampled = sampler.generate(
        prompt_ids, prompt_mask, Sampling(uniforms.shape[1], temperature), uniforms=uniforms.to(backbone.device)
    )
    episodes = Episodes(prompt_ids, prompt_mask, sampled.response_ids, sampled.mask)
    if isinstance(sampled, Sampled):
        blank = torch.zeros_like(sampled.logprobs)
        answers = Answers(
            tuple(prompts), episodes, sampled.ended, sampler_logprobs=sampled.logprobs, logprobs=blank, entropy=blank,
            values=blank,
        )  # fmt: skip
        answers = _rescored(actors, answers, temperature=temperature, microbatch=microbatch)
        _check_newest(actors, answers, temperature=temperature, microbatch=microbatch)
        return answers
    answers = Answers(
        prompts=tuple(prompts),
        episodes=episodes,
        ended=sampled.ended,
        sampler_logprobs=sampled.logprobs,
        logprobs=sampled.logprobs,
        entropy=sampled.entropy,
        values=keep(actors.value_head.at(sampled.states), sampled.mask),
    )
    return _rescored(actors, answers, temperature=temperature, microbatch=microbatch) if rescore else answers


def _rescored(actors: Actors, answers: Answers, *, temperature: float, microbatch: int) -> Answers:
    """Replace logprobs, entropies and values by those of the pass that training uses."""
    episodes, width = answers.episodes, answers.episodes.prompt_ids.shape[1]
    logprobs, entropy, values = [], [], []
    for part in chunks(len(episodes), microbatch):
        piece = episodes.select(part)
        forward = actors.backbone.forward(piece, adapter=POLICY, temperature=temperature, states="response")
        logprobs.append(forward.logprobs)
        entropy.append(forward.entropy)
        values.append(keep(actors.value_head(forward.hidden, width), piece.mask))
    return replace(answers, logprobs=torch.cat(logprobs), entropy=torch.cat(entropy), values=torch.cat(values))


def _check_newest(actors: Actors, answers: Answers, *, temperature: float, microbatch: int) -> None:
    """Check on the first microbatch that what sampled elsewhere is the policy now: neither SFT's nor the one before."""
    part, backbone = slice(0, microbatch), actors.backbone
    episodes = answers.episodes.select(part)
    others = {"the SFT policy": backbone.forward(episodes, adapter=REFERENCE, temperature=temperature).logprobs}
    if previous := actors.sampler.previous:
        with holding(backbone.parameters_of(POLICY), previous):
            before = backbone.forward(episodes, adapter=POLICY, temperature=temperature, states="response")
        others["the policy before the newest"] = before.logprobs
    check_fresh(answers.sampler_logprobs[part], answers.logprobs[part], others, episodes.mask)


@torch.no_grad()
def score(actors: Actors, answers: Answers, *, temperature: float, microbatch: int) -> Rollout:
    """Get reference logprobs and scores; ONE forward of the frozen reference gives both.

    Raises:
        UserError: a reward function failed (`FunctionSource.score`).
    """
    texts = response_texts(actors, answers)
    ref_logprobs, scores = [], []
    for part in chunks(len(texts), microbatch):
        piece = answers.episodes.select(part)
        reference = actors.backbone.forward(piece, adapter=REFERENCE, temperature=temperature)
        prompts = [prompt.text for prompt in answers.prompts[part]]
        batch = Scorable(prompts, texts[part], answers.ended[part], piece, reference)
        ref_logprobs.append(reference.logprobs)
        scores.append(actors.source.score(batch).float())
    return Rollout(answers, torch.cat(ref_logprobs), torch.cat(scores))


def response_texts(actors: Actors, answers: Answers) -> list[str]:
    """Decode each response, without special tokens and without the token that ended it, special or not."""
    lengths = (answers.episodes.mask.sum(1) - answers.ended.long()).tolist()
    rows = answers.episodes.response_ids.tolist()
    return [decode_response(actors.backbone.tokenizer, row[:n]) for row, n in zip(rows, lengths, strict=True)]


def episode_kl(rollout: Rollout) -> Float[Tensor, " B"]:
    """Estimate KL(policy || reference) of each episode, in nats, by k1."""
    return masked_sum(k1(rollout.answers.logprobs, rollout.ref_logprobs), rollout.mask, dim=1)


def measure(rollout: Rollout, advantages: Advantages, *, rewards: Float[Tensor, "B R"]) -> Measures:
    """Measure the policy that sampled a batch. `rewards` are those before any whitening."""
    answers, mask = rollout.answers, rollout.mask
    logprobs, reference = answers.logprobs, rollout.ref_logprobs
    return Measures(
        score=rollout.scores.mean().item(),
        score_std=rollout.scores.std(unbiased=False).item(),
        reward=rewards.sum(1).mean().item(),
        kl=episode_kl(rollout).mean().item(),
        kl_k2=masked_sum(k2(logprobs, reference), mask, dim=1).mean().item(),
        kl_k3=masked_sum(k3(logprobs, reference), mask, dim=1).mean().item(),
        entropy=masked_mean(answers.entropy, mask).item(),
        length=mask.sum(1).float().mean().item(),
        ended=answers.ended.float().mean().item(),
        explained_variance=explained_variance(answers.values, advantages.returns, mask).item(),
        sampler_gap=keep(answers.sampler_logprobs - logprobs, mask).abs().amax().item(),
    )
