"""Parity with trl 1.12.0's PPOTrainer, the last release that has one: numbers recorded by parity/record_trl.py.

Two conventions differ on purpose, and the tests say by how much. The peer whitens with the unbiased variance: its
whitened numbers are ours times sqrt((n - 1) / n). And where a response ended early it puts the score one token AFTER
the last token and trains the value there too (its `padding_mask_p1`): with that mask given to our functions, the
numbers agree; where all responses have full length nothing differs.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf.models.text.tokens import Episodes
from rlhf.ppo.actors import POLICY, REFERENCE, Actors
from rlhf.ppo.advantages import estimate_advantages
from rlhf.ppo.kl import ESTIMATORS
from rlhf.ppo.losses import policy_loss, value_loss
from rlhf.ppo.rewards import effective_scores, token_rewards, whiten_rewards
from rlhf.ppo.rollout import score
from rlhf.ppo.types import Advantages, Answers, Prompt, Rollout
from rlhf.ppo.update import accumulate_gradients
from tests.ppo.parity import recipe
from tests.ppo.worlds import make_actors, make_params, make_setup

RECORDED = json.loads(Path(__file__).with_name("parity").joinpath("trl_1_12_0.json").read_text())["cases"]
CASES = ("full", "ended", "ended_k3_whitened")


def recorded(case: str, name: str) -> Tensor:
    value = torch.tensor(RECORDED[case][name])
    return value.bool() if name.startswith("mask") else value


def close(found: Tensor, expected: Tensor) -> None:
    """Compare as closely as float32 allows on any processor.

    The numbers here are below 8, where float32 rounds by up to 2.4e-7 an operation; a logprob near 0 is a difference of
    two such numbers. Some twenty operations in a row make 5e-6, on the processor that recorded and on this one, each in
    an order of its own: 1e-5 together. Seen: 2e-6.
    """
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def close_gradients(found: Tensor | None, expected: Tensor) -> None:
    """Compare relative to the largest entry: small ones are sums in which large ones cancel."""
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def unbiased(n: int) -> float:
    return math.sqrt((n - 1) / n)


def test_the_recording_covers_clipping_and_early_ends() -> None:
    ratio = (recorded("full", "new_logprobs") - recorded("full", "logprobs")).exp()
    assert (ratio > 1.2).any()
    assert (ratio < 0.8).any()
    far = (recorded("full", "new_values") - recorded("full", "values")).abs() > recipe.VALUE_CLIP
    assert far.any()
    assert not far.all()
    assert recorded("full", "mask").all()
    assert not recorded("ended", "mask").all()


@pytest.mark.parametrize("case", CASES)
def test_rewards(case: str) -> None:
    estimate = ESTIMATORS["k3" if "k3" in case else "k1"]
    mask, reach = recorded(case, "mask"), recorded(case, "mask_p1")
    scores = effective_scores(recipe.scores(), torch.ones(recipe.B).bool(), clip=None, missing_eos="keep", penalty=0.0)
    logprobs, reference = (torch.where(mask, recorded(case, name), 0.0) for name in ("logprobs", "ref_logprobs"))
    found = token_rewards(scores, recipe.KL_COEF * estimate(logprobs, reference), reach)
    if "whitened" not in case:
        return close(found, recorded(case, "rewards"))
    close(found, recorded(case, "plain_rewards"))
    mean, factor = found[reach].mean(), unbiased(int(reach.sum()))
    expected = torch.where(reach, mean + factor * (whiten_rewards(found, reach) - mean), 0.0)
    return close(expected, recorded(case, "rewards"))


@pytest.mark.parametrize("case", CASES)
def test_advantages_and_returns(case: str) -> None:
    reach, mask = recorded(case, "mask_p1"), recorded(case, "mask")
    rewards, values = recorded(case, "rewards"), recorded(case, "values")
    found = estimate_advantages(rewards, values, reach, gamma=recipe.GAMMA, lam=recipe.LAM, whitened=False)
    close(found.advantages, torch.where(reach, recorded(case, "advantages"), 0.0))
    close(found.returns[reach], recorded(case, "returns")[reach])
    if case == "full":
        white = estimate_advantages(rewards, values, mask, gamma=recipe.GAMMA, lam=recipe.LAM, whitened=True)
        close(white.advantages * unbiased(int(mask.sum())), recorded(case, "whitened_advantages"))


@pytest.mark.parametrize("case", CASES)
def test_losses(case: str) -> None:
    policy = policy_loss(
        recorded(case, "new_logprobs"),
        old_logprobs=recorded(case, "logprobs"),
        advantages=recorded(case, "whitened_advantages"),
        mask=recorded(case, "mask"),
        clip_ratio=recipe.CLIP,
    )
    close(policy, recorded(case, "pg_loss"))
    value = value_loss(
        recorded(case, "new_values"),
        old_values=recorded(case, "values"),
        returns=recorded(case, "returns"),
        mask=recorded(case, "mask_p1"),
        clip=recipe.VALUE_CLIP,
    )
    close(value, recorded(case, "vf_loss"))
    close(policy + recipe.VALUE_COEF * value, recorded(case, "loss"))


@pytest.fixture(scope="module", params=["plain", "fast"])
def actors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Actors:
    """The peer's model in our shape: one base, a zero adapter as reference, the recipe's adapter as policy."""
    folder = tmp_path_factory.mktemp("parity")
    names = {f"t{i}": i for i in range(recipe.EOS)} | {"<eos>": recipe.EOS, "<pad>": recipe.PAD}
    inner = Tokenizer(models.WordLevel(names, unk_token="t0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")
    tokenizer.save_pretrained(folder / "base")
    base = GPT2LMHeadModel(recipe.config())
    recipe.fill_base(base)
    base.save_pretrained(folder / "base")
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=recipe.RANK, lora_alpha=recipe.ALPHA, target_modules=["c_attn", "c_proj"],
        fan_in_fan_out=True,
    )  # fmt: skip
    get_peft_model(base, lora).save_pretrained(folder / "adapter")
    actors = make_actors(folder / "base", folder / "adapter", engine=request.param)
    with torch.no_grad():
        for name, parameter in actors.backbone.parameters_of(POLICY).items():
            parameter.copy_(recipe.lora(short(name), tuple(parameter.shape)))
        actors.value_head.linear.weight.copy_(recipe.value_weight())
    return actors


def short(name: str) -> str:
    return name.rsplit("base_model.model.", maxsplit=1)[-1].replace(f".{POLICY}.weight", "")


def rollout(case: str) -> Rollout:
    rows = recipe.response_rows("full" if case == "full" else "ended")
    episodes = Episodes.of(recipe.prompt_rows(), rows, pad_id=recipe.PAD, device="cpu")
    assert torch.equal(episodes.mask, recorded(case, "mask"))
    logprobs = torch.where(episodes.mask, recorded(case, "logprobs"), 0.0)
    answers = Answers(
        prompts=tuple(Prompt(str(i), "t0", tuple(row)) for i, row in enumerate(recipe.prompt_rows())),
        episodes=episodes,
        ended=torch.zeros(recipe.B).bool(),
        sampler_logprobs=logprobs,
        logprobs=logprobs,
        entropy=torch.zeros_like(logprobs),
        values=recorded(case, "values"),
    )
    return Rollout(answers, recorded(case, "ref_logprobs"), recipe.scores())


@pytest.mark.parametrize("case", CASES)
def test_our_reference_and_policy_passes_give_the_peers_logprobs(actors: Actors, case: str) -> None:
    answers, mask = rollout(case).answers, recorded(case, "mask")
    scored = score(actors, answers, temperature=recipe.TEMPERATURE, microbatch=3)
    close(scored.ref_logprobs[mask], recorded(case, "ref_logprobs")[mask])
    forward = actors.backbone.forward(answers.episodes, adapter=POLICY, temperature=recipe.TEMPERATURE)
    close(forward.logprobs[mask].detach(), recorded(case, "new_logprobs")[mask])
    values = actors.value_head(forward.hidden, recipe.P)
    close(values[mask].detach(), recorded(case, "new_values")[mask])


@pytest.mark.parametrize("microbatch", [8, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_every_lora_parameter(actors: Actors, case: str, microbatch: int) -> None:
    """One minibatch through our own accumulation, against the peer's backward pass."""
    params = make_params(
        batch=8, minibatch=8, microbatch=microbatch, temperature=recipe.TEMPERATURE, clip_ratio=recipe.CLIP,
        value_clip=recipe.VALUE_CLIP, value_coef=recipe.VALUE_COEF, value_backprop=False,
    )  # fmt: skip
    setup = make_setup(actors, params)
    advantages = Advantages(recorded(case, "rewards"), recorded(case, "whitened_advantages"), recorded(case, "returns"))
    index = torch.arange(recipe.B)
    stats = accumulate_gradients(
        actors, setup.learner, rollout(case), advantages, index=index, params=params
    )  # fmt: skip
    close(torch.tensor(stats.policy_loss), recorded(case, "pg_loss"))
    found = {short(name): p.grad for name, p in actors.backbone.parameters_of(POLICY).items()}
    names = {name.removeprefix("grad/") for name in RECORDED[case] if name.startswith("grad/transformer")}
    assert set(found) == names
    assert len(names) == 2 * 3 * 2
    for name, gradient in found.items():
        close_gradients(gradient, recorded(case, f"grad/{name}"))
    if case == "full":
        close_gradients(actors.value_head.linear.weight.grad, recorded(case, "grad/value"))
        close(torch.tensor(stats.value_loss), recorded(case, "vf_loss"))
    assert all(p.grad is None for p in actors.backbone.parameters_of(REFERENCE).values())
