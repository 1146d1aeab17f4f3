"""One iteration: against a second derivation in float64, and the properties that rollouts must have."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.models.fast.engine import Engine
from rlhf.models.policy.backbone import Backbone
from rlhf.ppo.actors import POLICY, REFERENCE, Actors
from rlhf.ppo.state import Progress
from rlhf.ppo.step import experience, step
from tests.model_fixtures import byte_bpe, make_adapter, save_model
from tests.models.helpers import LOGPROBS
from tests.ppo import by_hand
from tests.ppo.worlds import make_actors, make_params, make_setup, snapshot


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("one_layer")
    tokenizer = byte_bpe(280)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    base = save_model(GPT2LMHeadModel(config), tokenizer, folder / "base", seed=6)
    return base, make_adapter(base, folder / "sft", seed=7)


def hand_weights(backbone: Backbone) -> by_hand.Weights:
    names = {n: p.detach().double() for n, p in backbone.model.named_parameters() if "lora_" not in n}
    return {n.split("transformer.")[-1].replace(".base_layer", ""): value for n, value in names.items()}


def hand_lora(backbone: Backbone, adapter: str) -> by_hand.Weights:
    found = {}
    for name, parameter in backbone.parameters_of(adapter).items():
        module, kind = name.split("transformer.")[-1].split(".lora_")
        found[f"{module}.{kind[0]}"] = parameter.detach().double()
    return found


def adam(weight: Tensor, gradients: list[Tensor], rates: list[float], eps: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 1, with b1 = .9 and b2 = .999."""
    m = v = torch.zeros_like(weight)
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weight = weight - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + eps)
    return weight


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_a_whole_step_against_a_second_derivation_in_float64(one_layer: tuple[Path, Path], engine: Engine) -> None:
    """Two epochs of one minibatch: rollout, rewards, advantages, both gradients and Adam, from the weights alone."""
    params = make_params(
        batch=6, minibatch=6, microbatch=4, epochs=2, iterations=4, temperature=0.8, kl_coef=0.4, gamma=0.97, lam=0.9,
        missing_eos="cap", max_grad_norm=0, lr=2e-2, value_lr=5e-2, value_coef=0.5, value_clip=0.05, response_tokens=9,
    )  # fmt: skip
    actors = make_actors(*one_layer, engine=engine)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a policy that has left its reference, and a value head that says something
        for parameter in [*actors.backbone.parameters_of(POLICY).values(), *actors.value_head.parameters()]:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    setup = make_setup(actors, params)
    made = experience(setup, setup.prompts.batch(0, 6), setup.uniforms(0), params.kl_coef)
    batch = []
    for i, prompt in enumerate(made.rollout.answers.prompts):
        length = int(made.rollout.mask[i].sum())
        response = made.rollout.answers.episodes.response_ids[i, :length].tolist()
        ended, score = bool(made.rollout.answers.ended[i]), float(made.rollout.scores[i])
        batch.append(by_hand.HandEpisode(list(prompt.ids), response, ended, score))
    s = by_hand.HandSettings(
        heads=2, scaling=2.0, temperature=0.8, kl_coef=0.4, gamma=0.97, lam=0.9, clip_ratio=0.2, value_clip=0.05,
        value_coef=0.5,
    )  # fmt: skip
    base, sft, lora = (
        hand_weights(actors.backbone), hand_lora(actors.backbone, REFERENCE), hand_lora(actors.backbone, POLICY),
    )  # fmt: skip
    head = {n: p.detach().double() for n, p in zip(("weight", "bias"), actors.value_head.parameters(), strict=True)}
    planned = by_hand.plan(base, sft, lora, head, batch=batch, s=s)
    for i, row in enumerate(planned[2]):
        assert made.advantages.advantages[i, : len(row)].tolist() == pytest.approx(row, abs=1e-4)

    start = {f"policy/{k}": v for k, v in lora.items()} | {f"value/{k}": v for k, v in head.items()}
    rates = {k: 2e-2 if k.startswith("policy/") else 5e-2 for k in start}
    now, gradients = start, {k: [] for k in start}
    for _ in range(2):
        now = {k: v.detach().requires_grad_() for k, v in now.items()}
        parts = [{k.split("/")[1]: v for k, v in now.items() if k.startswith(kind)} for kind in ("policy", "value")]
        by_hand.objective(base, *parts, batch=batch, planned=planned, s=s).backward()
        for k, v in now.items():
            gradients[k].append(v.grad)
        now = {k: adam(start[k], gradients[k], [rates[k]] * len(gradients[k]), 1e-5) for k in start}

    _, stats = step(setup, Progress.start(params))
    assert stats.clip_fraction > 0.02  # the second minibatch went through the clipping
    after = {f"policy/{k}": v for k, v in hand_lora(actors.backbone, POLICY).items()}
    after |= {
        f"value/{n}": p.detach().double()
        for n, p in zip(("weight", "bias"), actors.value_head.parameters(), strict=True)
    }
    last = {
        f"policy/{n.split('transformer.')[-1].split('.lora_')[0]}.{n.split('.lora_')[1][0]}": p.grad
        for n, p in actors.backbone.parameters_of(POLICY).items()
    } | {f"value/{n}": p.grad for n, p in zip(("weight", "bias"), actors.value_head.parameters(), strict=True)}
    for k in start:
        expected = gradients[k][-1]
        torch.testing.assert_close(
            last[k].double(), expected, rtol=1e-3, atol=1e-4 * max(expected.abs().max().item(), 0.1)
        )
        torch.testing.assert_close(after[k], now[k].detach(), rtol=1e-3, atol=2e-4)


def test_a_step_is_a_function_of_seed_and_iteration(tiny_model_dir: Path, tiny_adapter_dir: Path) -> None:
    def run(seed: int, iteration: int) -> dict[str, bytes]:
        setup = make_setup(make_actors(tiny_model_dir, tiny_adapter_dir), make_params(), seed=seed)
        step(setup, Progress(kl_coef=0.1, iteration=iteration))
        return snapshot(setup.learner.parameters)

    first = run(0, 2)
    assert run(0, 2) == first
    assert run(0, 3) != first
    assert run(1, 2) != first


def test_exactly_the_policys_lora_and_the_value_head_change(actors: Actors) -> None:
    everything = dict(actors.backbone.model.named_parameters()) | dict(actors.backbone.model.named_buffers())
    own = set(actors.backbone.parameters_of(POLICY))
    before = snapshot(everything)
    head = snapshot(actors.value_head.state_dict())
    setup = make_setup(actors, make_params())
    step(setup, Progress(kl_coef=0.1))
    after = snapshot(everything)
    assert {name for name in before if before[name] != after[name]} == own
    assert all(a != b for a, b in zip(head.values(), snapshot(actors.value_head.state_dict()).values(), strict=True))


def test_policy_and_reference_start_equal(actors: Actors) -> None:
    setup = make_setup(actors, make_params(batch=6, minibatch=6, response_tokens=12, rescore="always"))
    made = experience(setup, setup.prompts.batch(0, 6), setup.uniforms(0), 0.1)
    torch.testing.assert_close(made.rollout.ref_logprobs, made.rollout.answers.logprobs, **LOGPROBS)
    assert abs(made.measures.kl) < 12 * LOGPROBS["atol"]
    assert abs(made.measures.kl_k3) < 1e-8
    assert made.measures.sampler_gap < LOGPROBS["atol"]


def test_k1_is_zero_within_its_error_where_policy_and_reference_differ_by_nothing_but_padding(actors: Actors) -> None:
    """KL is never mysteriously negative: 240 episodes of the untrained policy, and k3 is exactly not below 0."""
    setup = make_setup(actors, make_params(batch=240, minibatch=240, microbatch=80))
    measures = experience(setup, setup.prompts.batch(0, 240), setup.uniforms(0), 0.1).measures
    assert abs(measures.kl) < 8 * LOGPROBS["atol"]  # eight tokens an episode
    assert 0 <= measures.kl_k3 < 1e-6


def test_microbatches_change_no_rollout(actors: Actors) -> None:
    def run(size: int) -> Tensor:
        setup = make_setup(actors, make_params(microbatch=size))
        made = experience(setup, setup.prompts.batch(0, 8), setup.uniforms(0), 0.1)
        return torch.stack([made.advantages.advantages, made.advantages.returns, made.rollout.ref_logprobs])

    torch.testing.assert_close(run(8), run(3), rtol=1e-4, atol=1e-4)


def test_temperature_enters_every_logprob(actors: Actors) -> None:
    """Sampler, policy pass and reference pass at one temperature agree; at another they give other numbers."""
    found = {}
    for temperature in (1.0, 0.5):
        setup = make_setup(actors, make_params(temperature=temperature, rescore="always"))
        made = experience(setup, setup.prompts.batch(0, 8), setup.uniforms(0), 0.1)
        assert made.measures.sampler_gap < LOGPROBS["atol"]
        assert abs(made.measures.kl) < 8 * LOGPROBS["atol"]
        found[temperature] = made.measures.entropy
    assert found[0.5] < found[1.0] - 0.1


def test_the_kl_coefficient_is_that_of_the_progress(actors: Actors) -> None:
    """Rewards at coefficient 5 are those at 0 less five times the KL of the same samples; progress stays as it is."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actors.backbone.parameters_of(POLICY).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    found = {}
    for kl_coef in (5.0, 0.0):
        progress = Progress(kl_coef=kl_coef)
        made, _ = step(make_setup(actors, make_params(lr=0.0, value_lr=0.0)), progress)
        found[kl_coef] = made.measures
        assert progress == Progress(kl_coef=kl_coef)
    assert abs(found[0.0].kl) > 0.01  # k1 may be negative on a batch
    assert found[5.0].reward == pytest.approx(found[0.0].reward - 5.0 * found[0.0].kl, abs=1e-4)


def test_whitened_rewards_are_what_gae_sees(actors: Actors) -> None:
    plain = make_setup(actors, make_params())
    white = dataclasses.replace(plain, params=make_params(whiten_rewards=True))
    one, other = (experience(s, s.prompts.batch(0, 8), s.uniforms(0), 0.1) for s in (plain, white))
    assert one.measures.reward == other.measures.reward  # what is reported stays in reward units
    kept = other.advantages.rewards[other.rollout.mask]
    assert kept.var(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    assert kept.mean().item() == pytest.approx(one.advantages.rewards[one.rollout.mask].mean().item(), abs=1e-5)


def test_every_iteration_draws_its_own_random_numbers(actors: Actors) -> None:
    setup, other = make_setup(actors, make_params()), make_setup(actors, make_params(), seed=1)
    draws = [setup.uniforms(0), setup.uniforms(1), other.uniforms(0)]
    assert torch.equal(draws[0], setup.uniforms(0))
    assert all(not (a == b).any() for a, b in ((draws[0], draws[1]), (draws[0], draws[2])))
    assert all(0 <= draw.min() <= draw.max() < 1 for draw in draws)
    answers = [experience(setup, setup.prompts.batch(0, 8), draw, 0.1).rollout.answers for draw in draws[:2]]
    assert answers[0].episodes.response_ids.tolist() != answers[1].episodes.response_ids.tolist()
