"""The plain backbone against `transformers` and `peft` called one episode at a time, without padding."""

import hashlib
import math
import statistics
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rlhf.core.errors import UserError
from rlhf.models.fast.engine import Engine, load_backbone
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import position_ids
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes, encode_prompt, pad_left
from tests.model_fixtures import make_adapter
from tests.models import helpers
from tests.models.helpers import LOGPROBS, STATES, ragged, rows

TEMPERATURE = 0.7


def reference(model: torch.nn.Module, episodes: Episodes, temperature: float) -> list[tuple[list[float], list[float]]]:
    """Logprobs and entropies of every response token, one unpadded episode at a time, sums in plain Python."""
    found = []
    prompts, responses = rows(episodes.prompt_ids, episodes.prompt_mask), rows(episodes.response_ids, episodes.mask)
    for prompt, response in zip(prompts, responses, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0].tolist()
        states = logits[len(prompt) - 1 : -1]
        found.append(
            (
                [helpers.log_softmax(s, temperature)[t] for s, t in zip(states, response, strict=True)],
                [helpers.entropy(s, temperature) for s in states],
            )
        )
    return found


def assert_same(backbone: Backbone, expected: list[tuple[list[float], list[float]]], adapter: str | None) -> None:
    episodes = ragged(backbone)
    forward = backbone.forward(episodes, adapter=adapter, temperature=TEMPERATURE)
    for row, (logprobs, entropies) in enumerate(expected):
        real, blank = len(logprobs), episodes.mask.shape[1] - len(logprobs)
        torch.testing.assert_close(forward.logprobs[row].tolist(), logprobs + [0.0] * blank, **LOGPROBS)
        torch.testing.assert_close(forward.entropy[row].tolist(), entropies + [0.0] * blank, **LOGPROBS)
        assert real == int(episodes.mask[row].sum())


@pytest.mark.parametrize("adapter", [None, "sft", "policy"])
def test_forward_is_that_of_plain_peft_without_padding(
    backbone: Backbone, model_dir: Path, adapter_dirs: dict[str, Path], adapter: str | None
) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter_dirs[adapter])
    assert_same(backbone, reference(model.eval(), ragged(backbone), TEMPERATURE), adapter)


def test_merged_and_apart_agree(backbone: Backbone, model_dir: Path, adapter_dirs: dict[str, Path]) -> None:
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), adapter_dirs["sft"])
    assert_same(backbone, reference(merged.merge_and_unload().eval(), ragged(backbone), TEMPERATURE), "sft")


THOROUGH = pytest.mark.thorough


@pytest.mark.parametrize(
    ("temperature", "ragged_prompts", "adapter"),
    [  # every two values together in `make test`, all three with the thorough tests
        (0.7, False, "policy"), (0.7, True, None), (1.0, False, None), (1.0, True, "policy"),
        pytest.param(0.7, False, None, marks=THOROUGH), pytest.param(0.7, True, "policy", marks=THOROUGH),
        pytest.param(1.0, False, "policy", marks=THOROUGH), pytest.param(1.0, True, None, marks=THOROUGH),
    ],
)  # fmt: skip
def test_the_samplers_logprobs_are_the_forwards(
    backbone: Backbone, adapter: str | None, ragged_prompts: bool, temperature: float
) -> None:
    episodes = ragged(backbone, count=6)
    ids, mask = episodes.prompt_ids, episodes.prompt_mask
    if not ragged_prompts:
        mask = torch.ones_like(mask)
    uniforms = torch.rand(6, 40, generator=torch.Generator().manual_seed(5))
    sampled = backbone.generate(ids, mask, adapter=adapter, sampling=Sampling(40, temperature), uniforms=uniforms)
    again = backbone.forward(
        Episodes(ids, mask, sampled.response_ids, sampled.mask), adapter=adapter, temperature=temperature
    )
    torch.testing.assert_close(sampled.logprobs, again.logprobs.detach(), **LOGPROBS)
    assert bool((sampled.logprobs[sampled.mask] < 0).all())


def test_more_padding_and_another_pad_id_change_nothing(backbone: Backbone) -> None:
    episodes = ragged(backbone)
    plain = backbone.forward(episodes, adapter="policy", temperature=TEMPERATURE)
    left, right = torch.full((5, 4), 7), torch.full((5, 3), 11)
    wider = Episodes(
        torch.cat((left, episodes.prompt_ids.masked_fill(~episodes.prompt_mask, 13)), 1),
        torch.cat((left < 0, episodes.prompt_mask), 1),
        torch.cat((episodes.response_ids.masked_fill(~episodes.mask, 17), right), 1),
        torch.cat((episodes.mask, right < 0), 1),
    )
    padded = backbone.forward(wider, adapter="policy", temperature=TEMPERATURE)
    torch.testing.assert_close(padded.logprobs[:, :-3], plain.logprobs, **LOGPROBS)
    torch.testing.assert_close(padded.entropy[:, :-3], plain.entropy, **LOGPROBS)
    torch.testing.assert_close(padded.hidden[:, 4:-3], plain.hidden, **STATES)
    assert not padded.hidden[:, :4].any()
    assert not padded.logprobs[:, -3:].any()


def test_permuting_episodes_permutes_results(backbone: Backbone) -> None:
    episodes, order = ragged(backbone), torch.tensor([3, 0, 4, 1, 2])
    plain = backbone.forward(episodes, adapter="sft", temperature=TEMPERATURE)
    permuted = backbone.forward(episodes.select(order), adapter="sft", temperature=TEMPERATURE)
    torch.testing.assert_close(permuted.logprobs, plain.logprobs[order], **LOGPROBS)
    torch.testing.assert_close(permuted.hidden, plain.hidden[order], **STATES)


def test_temperature_enters(backbone: Backbone) -> None:
    episodes = ragged(backbone)
    warm, cool = (backbone.forward(episodes, adapter="sft", temperature=t) for t in (1.0, 0.5))
    moved = (warm.logprobs - cool.logprobs).abs()[episodes.mask]
    assert float(moved.min()) > 1e-4
    assert bool((cool.entropy < warm.entropy)[episodes.mask].all())


def test_splitting_or_permuting_a_batch_changes_no_sampled_token(backbone: Backbone) -> None:
    episodes = ragged(backbone, count=6)
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(9))

    def sample(index: list[int]) -> list[list[int]]:
        found = backbone.generate(
            episodes.prompt_ids[index], episodes.prompt_mask[index],
            adapter="policy", sampling=Sampling(12, 1.0), uniforms=uniforms[index],
        )  # fmt: skip
        return rows(found.response_ids, found.mask)

    whole = sample([0, 1, 2, 3, 4, 5])
    assert sample([0, 1]) + sample([2]) + sample([3, 4, 5]) == whole
    assert sample([5, 3, 1, 0, 2, 4]) == [whole[i] for i in (5, 3, 1, 0, 2, 4)]


def test_generation_stops_at_the_first_eos(backbone: Backbone) -> None:
    prompt = torch.tensor([[5, 6, 7], [5, 6, 7]])
    free = backbone.generate(
        prompt, prompt > 0, adapter="sft", sampling=Sampling(12, 1.0), uniforms=torch.full((2, 12), 0.3)
    )
    usual = backbone.end_ids
    try:
        backbone.end_ids = (int(free.response_ids[0, 4]),)  # as if this token ended a response
        first = free.response_ids[0].tolist().index(backbone.end_ids[0])
        uniforms = torch.stack((torch.full((12,), 0.3), torch.full((12,), 0.9)))
        found = backbone.generate(prompt, prompt > 0, adapter="sft", sampling=Sampling(12, 1.0), uniforms=uniforms)
        alone = backbone.generate(
            prompt[:1], prompt[:1] > 0, adapter="sft", sampling=Sampling(12, 1.0), uniforms=uniforms[:1]
        )
    finally:
        backbone.end_ids = usual
    assert found.mask[0].sum() == first + 1
    assert bool(found.ended[0])
    assert alone.response_ids.shape[1] == first + 1
    assert not found.logprobs[0, first + 1 :].any()
    assert found.response_ids[0, first + 1 :].unique().tolist() in ([], [backbone.pad_id])


def test_only_the_trainable_adapter_gets_gradients(backbone: Backbone) -> None:
    backbone.forward(ragged(backbone), adapter="policy", temperature=1.0).logprobs.sum().backward()
    policy, sft = backbone.parameters_of("policy"), backbone.parameters_of("sft")
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.values())
    assert all(p.grad is None for p in sft.values())
    assert {n for n, p in backbone.model.named_parameters() if p.grad is not None} == set(policy)
    for parameter in policy.values():
        parameter.grad = None
    frozen = backbone.forward(ragged(backbone), adapter="sft", temperature=1.0)
    assert not frozen.logprobs.requires_grad
    assert not frozen.hidden.requires_grad


def test_using_another_adapter_between_forward_and_backward_does_no_harm(backbone: Backbone) -> None:
    loss = backbone.forward(ragged(backbone), adapter="policy", temperature=1.0).logprobs.sum()
    backbone.forward(ragged(backbone), adapter="sft", temperature=1.0)
    backbone.forward(ragged(backbone), adapter=None, temperature=1.0)
    loss.backward()
    assert all(p.grad is not None for p in backbone.parameters_of("policy").values())
    for parameter in backbone.parameters_of("policy").values():
        parameter.grad = None


def digest(backbone: Backbone, adapter: str) -> str:
    found = hashlib.sha256()
    for name, parameter in sorted(backbone.parameters_of(adapter).items()):
        found.update(name.encode() + parameter.detach().numpy().tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_training_one_adapter_leaves_the_other_and_the_base(
    engine: Engine, model_dir: Path, adapter_dirs: dict[str, Path]
) -> None:
    both = {"sft": adapter_dirs["sft"], "policy": adapter_dirs["sft"]}
    backbone = load_backbone(model_dir, both, engine=engine, trainable=["policy"], dtype=torch.float32, device="cpu")
    assert digest(backbone, "sft") != digest(backbone, "policy")  # their names differ, their weights do not
    before = {name: parameter.clone() for name, parameter in backbone.model.named_parameters()}
    optimiser = torch.optim.SGD(backbone.parameters_of("policy").values(), lr=0.01)
    frozen = backbone.forward(ragged(backbone), adapter="sft", temperature=1.0)
    for _ in range(2):
        optimiser.zero_grad()
        backbone.forward(ragged(backbone), adapter="policy", temperature=1.0).logprobs.sum().backward()
        optimiser.step()
    changed = {n for n, p in backbone.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(backbone.parameters_of("policy"))
    assert torch.equal(frozen.logprobs, backbone.forward(ragged(backbone), adapter="sft", temperature=1.0).logprobs)


def test_a_saved_adapter_gives_plain_peft_the_same_logits(backbone: Backbone, model_dir: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        backbone.save_adapter("policy", tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), tmp_path / "one").eval()
    assert_same(backbone, reference(model, ragged(backbone), TEMPERATURE), "policy")


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_k1_is_zero_on_average_while_the_policy_is_the_reference(
    engine: Engine, model_dir: Path, tmp_path: Path
) -> None:
    """mean(logp(x) - logp_ref(x)) over 250 sampled episodes, with the two passes padded differently."""
    adapter = make_adapter(model_dir, tmp_path / "sft", seed=4)
    backbone = load_backbone(
        model_dir, {"sft": adapter, "policy": adapter}, engine=engine, dtype=torch.float32, device="cpu"
    )
    prompts = ragged(backbone, count=250, seed=1)
    uniforms = torch.rand(250, 12, generator=torch.Generator().manual_seed(2))
    sampled = backbone.generate(
        prompts.prompt_ids, prompts.prompt_mask, adapter="policy", sampling=Sampling(12, 0.7), uniforms=uniforms
    )
    wider = Episodes(
        torch.nn.functional.pad(prompts.prompt_ids, (5, 0)),
        torch.nn.functional.pad(prompts.prompt_mask, (5, 0)),
        sampled.response_ids,
        sampled.mask,
    )
    k1 = (sampled.logprobs - backbone.forward(wider, adapter="sft", temperature=0.7).logprobs).sum(1).tolist()
    assert abs(statistics.fmean(k1)) < 12 * LOGPROBS["atol"]  # twelve tokens an episode, all rounded the same way


def test_k1_of_another_policy_is_an_honest_kl(backbone: Backbone) -> None:
    """Sampled k1 agrees with the exact KL summed over the vocabulary, within three standard errors."""
    prompt = torch.tensor([[9, 8, 7]]).expand(2000, -1)
    uniforms = torch.rand(2000, 1, generator=torch.Generator().manual_seed(6))
    one = backbone.generate(prompt, prompt > 0, adapter="policy", sampling=Sampling(1, TEMPERATURE), uniforms=uniforms)
    ref = backbone.forward(
        Episodes(prompt, prompt > 0, one.response_ids, one.mask), adapter="sft", temperature=TEMPERATURE
    )
    k1 = (one.logprobs - ref.logprobs)[:, 0].tolist()
    distributions = []
    for adapter in ("policy", "sft"):
        vocabulary = backbone.model.config.vocab_size
        every = Episodes(
            prompt[:1].expand(vocabulary, -1), prompt[:1].expand(vocabulary, -1) > 0,
            torch.arange(vocabulary).unsqueeze(1), torch.ones(vocabulary, 1).bool(),
        )  # fmt: skip
        with torch.no_grad():
            distributions.append(
                backbone.forward(every, adapter=adapter, temperature=TEMPERATURE).logprobs[:, 0].tolist()
            )
    exact = math.fsum(math.exp(p) * (p - q) for p, q in zip(*distributions, strict=True))
    assert exact > 0.05
    assert abs(statistics.fmean(k1) - exact) < 3 * statistics.stdev(k1) / math.sqrt(2000)


def test_position_ids_by_hand() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]).bool()
    real = [
        [p for p, m in zip(ps, ms, strict=True) if m]
        for ps, ms in zip(position_ids(mask).tolist(), mask.tolist(), strict=True)
    ]
    assert real == [[0, 1, 2], [0, 1, 2, 3]]


@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_greedy_decoding_of_a_real_model_tells_its_story(engine: Engine, shared_data: Path) -> None:
    backbone = load_backbone(shared_data / "stories260K", {}, engine=engine, dtype=torch.float32, device="cpu")
    ids, mask = pad_left([encode_prompt(backbone.tokenizer, "")], backbone.pad_id, "cpu")
    assert ids.tolist() == [[backbone.tokenizer.bos_token_id]]
    story = (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    )
    found = backbone.generate(ids, mask, adapter=None, sampling=Sampling(100, 1.0), uniforms=None)
    assert backbone.tokenizer.decode(found.response_ids[0], skip_special_tokens=True).strip().startswith(story)


def test_what_does_not_fit_is_refused(backbone: Backbone) -> None:
    long = torch.ones(1, 120, dtype=torch.int64)
    with pytest.raises(UserError, match=r"130 tokens .* context of 128"):
        backbone.generate(long, long > 0, adapter=None, sampling=Sampling(10, 1.0), uniforms=None)
    with pytest.raises(UserError, match=r"240 tokens .* context of 128"):
        backbone.forward(Episodes(long, long > 0, long, long > 0), adapter=None, temperature=1.0)
    with pytest.raises(UserError, match=r"adapter 'reward': not loaded; allowed: \['sft', 'policy'\]"):
        backbone.forward(ragged(backbone), adapter="reward", temperature=1.0)


def test_an_adapter_of_another_model_is_refused(model_dir: Path, shared_data: Path, tmp_path: Path) -> None:
    other = make_adapter(shared_data / "stories260K", tmp_path / "other", seed=0)
    with pytest.raises(UserError, match="does not fit the base model"):
        Backbone.load(model_dir, {"sft": other}, dtype=torch.float32, device="cpu")
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        Backbone.load(model_dir, {"sft": tmp_path}, dtype=torch.float32, device="cpu")
