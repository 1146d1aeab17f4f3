"""The fast engine against the plain one, whose own tests compare it with `transformers` and `peft`."""

import math
from pathlib import Path

import pytest
import torch

from rlhf.models.fast.engine import load_backbone
from rlhf.models.fast.generate import KeyValueCache
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import Generation
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes
from tests.models.helpers import LOGPROBS, STATES, ragged

Pair = tuple[Backbone, Backbone]


def even(backbone: Backbone) -> Episodes:
    """Episodes without any padding: the path that needs no gathering."""
    ids = torch.randint(3, 300, (4, 11), generator=torch.Generator().manual_seed(1))
    return Episodes(ids[:, :6], ids[:, :6] > 0, ids[:, 6:], ids[:, 6:] > 0)


@pytest.mark.parametrize("make", [ragged, even])
@pytest.mark.parametrize("adapter", [None, "sft", "policy"])
def test_forward(pair: Pair, make: object, adapter: str | None) -> None:
    assert callable(make)
    plain, fast = (b.forward(make(b), adapter=adapter, temperature=0.7) for b in pair)
    for name in ("logprobs", "entropy"):
        torch.testing.assert_close(getattr(fast, name), getattr(plain, name), **LOGPROBS)
    torch.testing.assert_close(fast.hidden, plain.hidden, **STATES)


@pytest.mark.parametrize("make", [ragged, even])
def test_the_last_layer_for_responses_only(pair: Pair, make: object) -> None:
    assert callable(make)
    plain, fast = pair
    episodes = make(fast)
    whole = plain.forward(episodes, adapter="policy", temperature=0.7)
    part = fast.forward(episodes, adapter="policy", temperature=0.7, states="response")
    torch.testing.assert_close(part.logprobs, whole.logprobs, **LOGPROBS)
    width = episodes.prompt_ids.shape[1]
    needed = torch.zeros_like(episodes.sequence_mask)
    needed[:, width - 1 : -1] = episodes.mask
    torch.testing.assert_close(part.hidden[needed], whole.hidden[needed], **STATES)
    assert not part.hidden[~needed].any()


@pytest.mark.parametrize("make", [ragged, even])
@pytest.mark.parametrize("states", ["all", "response"])
def test_gradients(pair: Pair, make: object, states: str) -> None:
    """Of a loss on logprobs and hidden states at once, on every LoRA weight."""
    assert callable(make)
    found = []
    for backbone in pair:
        episodes = make(backbone)
        forward = backbone.forward(
            episodes, adapter="policy", temperature=0.7, states="all" if backbone is pair[0] else states
        )  # type: ignore[arg-type]
        start = episodes.prompt_ids.shape[1] - 1
        before = forward.hidden[:, start:-1][episodes.mask]
        weights = torch.linspace(-1, 1, before.numel()).view_as(before)
        loss = (forward.logprobs * torch.linspace(1, 2, episodes.mask.shape[1])).sum() + (before * weights).sum()
        parameters = backbone.parameters_of("policy")
        found.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    for name, gradient in found[0].items():
        scale = float(gradient.abs().max())
        assert scale > 1e-4
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("greedy", "adapter"),
    [
        (True, None), (False, "policy"),
        pytest.param(False, None, marks=pytest.mark.thorough), pytest.param(True, "policy", marks=pytest.mark.thorough),
    ],
)  # fmt: skip
def test_generation(pair: Pair, greedy: bool, adapter: str | None) -> None:
    plain, fast = (sample(b, adapter=adapter, greedy=greedy) for b in pair)
    assert torch.equal(plain.response_ids, fast.response_ids)
    assert torch.equal(plain.mask, fast.mask)
    assert torch.equal(plain.ended, fast.ended)
    for name in ("logprobs", "entropy"):
        torch.testing.assert_close(getattr(fast, name), getattr(plain, name), **LOGPROBS)
    torch.testing.assert_close(fast.states, plain.states, **STATES)


def sample(backbone: Backbone, *, adapter: str | None, greedy: bool = False) -> Generation:
    prompts = ragged(backbone, count=12)
    uniforms = torch.rand(12, 30, generator=torch.Generator().manual_seed(8))
    return backbone.generate(
        prompts.prompt_ids, prompts.prompt_mask, adapter=adapter, sampling=Sampling(30, 1.3),
        uniforms=None if greedy else uniforms,
    )  # fmt: skip


def test_rows_that_end_are_dropped_without_a_trace(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a frequent token as EOS the rows end one by one, and the cache shrinks on the way, more than once."""
    shrunk: list[int] = []
    select = KeyValueCache.select

    def spy(cache: KeyValueCache, rows: torch.Tensor) -> None:
        shrunk.append(len(rows))
        select(cache, rows)

    monkeypatch.setattr(KeyValueCache, "select", spy)
    prompts = ragged(pair[0], count=24)
    last = pair[0].model.config.vocab_size - 1  # drawn where the uniform number is 1
    uniforms = torch.rand(24, 24, generator=torch.Generator().manual_seed(8)).clamp_max(0.9)
    uniforms[torch.arange(24), torch.randperm(24, generator=torch.Generator().manual_seed(9))] = 1.0
    usual, found = pair[0].end_ids, []
    for backbone in pair:
        backbone.end_ids = (last,)
        found.append(
            backbone.generate(
                prompts.prompt_ids,
                prompts.prompt_mask,
                adapter="sft",
                sampling=Sampling(24, 1.0),
                uniforms=uniforms,
            )
        )
        backbone.end_ids = usual
    plain, fast = found
    assert shrunk == [12, 6, 3, 1]
    assert sorted(plain.mask.sum(1).tolist()) == list(range(1, 25))
    assert torch.equal(plain.response_ids, fast.response_ids)
    assert torch.equal(plain.ended, fast.ended)
    torch.testing.assert_close(fast.logprobs, plain.logprobs, **LOGPROBS)
    torch.testing.assert_close(fast.states, plain.states, **STATES)


def test_the_states_of_sampling_are_those_before_each_token(pair: Pair) -> None:
    for backbone in pair:
        prompts = ragged(backbone, count=12)
        sampled = sample(backbone, adapter="policy")
        episodes = Episodes(prompts.prompt_ids, prompts.prompt_mask, sampled.response_ids, sampled.mask)
        forward = backbone.forward(episodes, adapter="policy", temperature=1.3)
        start = prompts.prompt_ids.shape[1] - 1
        expected = forward.hidden[:, start:-1].masked_fill(~sampled.mask.unsqueeze(-1), 0.0)
        torch.testing.assert_close(sampled.states, expected.detach(), **STATES)
        torch.testing.assert_close(sampled.entropy, forward.entropy, **LOGPROBS)


def test_an_optimiser_step_is_seen(pair: Pair) -> None:
    """The merged weights are made again, for the forward and for sampling, and can be taken back."""
    for backbone in pair:
        parameters = list(backbone.parameters_of("policy").values())
        saved = [p.detach().clone() for p in parameters]
        before = backbone.forward(ragged(backbone), adapter="policy", temperature=1.0)
        before.logprobs.sum().backward()
        torch.optim.SGD(parameters, lr=1e-3).step()
        after = backbone.forward(ragged(backbone), adapter="policy", temperature=1.0)
        assert float((after.logprobs - before.logprobs).detach().abs().max()) > 1e-4
        with torch.no_grad():
            for parameter, old in zip(parameters, saved, strict=True):
                parameter.copy_(old)
                parameter.grad = None
        again = backbone.forward(ragged(backbone), adapter="policy", temperature=1.0)
        assert torch.equal(again.logprobs, before.logprobs)


def test_bfloat16_is_near(model_dir: Path, adapter_dirs: dict[str, Path]) -> None:
    """In bf16 adapters stay apart; both engines are then as near to each other as the format allows."""
    plain, fast = (
        load_backbone(model_dir, adapter_dirs, engine=engine, dtype=torch.bfloat16, device="cpu")
        for engine in ("plain", "fast")
    )
    one, two = (b.forward(ragged(b), adapter="sft", temperature=1.0).logprobs for b in (plain, fast))
    assert two.dtype == torch.float32
    assert math.sqrt(float((one - two).square().mean())) < 0.05
