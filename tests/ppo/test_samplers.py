"""Sampling elsewhere, by a server that speaks vLLM's protocol over plain transformers, and is wrong in many ways."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.outputs import Generation
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import pad_left
from rlhf.ppo.actors import POLICY, Actors
from rlhf.ppo.guards import SelfCheckError
from rlhf.ppo.rollout import respond
from rlhf.ppo.samplers.client import check_address
from rlhf.ppo.samplers.completion import seed_of
from rlhf.ppo.samplers.freshness import check_fresh
from rlhf.ppo.samplers.interface import NativeSampler, Sampled
from rlhf.ppo.samplers.vllm import VllmSampler, merge
from rlhf.ppo.state import Progress
from rlhf.ppo.step import Setup, step
from rlhf.ppo.types import Answers
from tests.ppo.vllm_server import VllmServer
from tests.ppo.worlds import make_actors, make_params, make_prompts, make_setup

TEMPERATURE, TOKENS = 0.7, 4


@pytest.fixture(scope="module")
def lora_server(tiny_llama_dir: Path) -> Iterator[VllmServer]:
    with VllmServer(tiny_llama_dir) as server:
        yield server


@pytest.fixture(scope="module")
def merged_server(tiny_model_dir: Path) -> Iterator[VllmServer]:
    with VllmServer(tiny_model_dir, merged=True) as server:
        yield server


@pytest.fixture(scope="module")
def llama_actors(tiny_llama_dir: Path, llama_adapter_dir: Path) -> Actors:
    return make_actors(tiny_llama_dir, llama_adapter_dir)


@pytest.fixture
def server(lora_server: VllmServer) -> Iterator[VllmServer]:
    lora_server.log.clear()
    yield lora_server
    lora_server.faults.clear()
    lora_server.root, lora_server.context = str(lora_server.base), 128


@pytest.fixture
def elsewhere(server: VllmServer, llama_actors: Actors) -> Iterator[Actors]:
    """Actors whose responses the server samples; their weights are put back."""
    weights = {name: value.detach().clone() for name, value in llama_actors.trainable().items()}
    sampler = VllmSampler(server.url, llama_actors.backbone, server.base)
    yield replace(llama_actors, engine_elsewhere=sampler)
    server.faults.clear()
    sampler.close()
    assert server.loaded == []  # nothing is left behind
    with torch.no_grad():
        for name, value in llama_actors.trainable().items():
            value.copy_(weights[name])


def answers(actors: Actors, *, iteration: int = 0) -> Answers:
    setup = make_setup(actors, make_params())
    prompts = make_prompts(actors)
    uniforms = setup.uniforms(iteration)[: len(prompts), :TOKENS]
    return respond(actors, prompts, uniforms=uniforms, temperature=TEMPERATURE, microbatch=4, rescore=False)


def move(actors: Actors, by: float = 0.3) -> None:
    """An update that changes what the policy says."""
    noise = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in actors.backbone.parameters_of(POLICY).values():
            value.add_(by * torch.randn(value.shape, generator=noise))


def gap(made: Answers) -> float:
    return float((made.sampler_logprobs - made.logprobs).abs().max())


def test_what_the_server_samples_is_scored_by_the_trainer(elsewhere: Actors) -> None:
    """Also after the weights have moved: the logprobs agree, and everything else is of the trainer's own pass."""
    for _ in range(2):
        made = answers(elsewhere)
        mask = made.episodes.mask
        assert gap(made) < 1e-4
        assert not torch.equal(made.sampler_logprobs, made.logprobs)
        assert float(made.entropy[mask].min()) > 0
        again = elsewhere.backbone.forward(made.episodes, adapter=POLICY, temperature=TEMPERATURE)
        torch.testing.assert_close(made.logprobs, again.logprobs, atol=1e-5, rtol=0)
        rows = zip(made.episodes.response_ids, mask, strict=True)
        assert made.ended.tolist() == [bool((row[real] == 2).any()) for row, real in rows]
        move(elsewhere)


def test_rows_are_independent_and_the_same_numbers_the_same_seeds(elsewhere: Actors) -> None:
    """One seed for a whole batch would give equal prompts equal responses."""
    sampler, backbone = elsewhere.sampler, elsewhere.backbone
    sampler.publish(POLICY)
    prompt = make_prompts(elsewhere)[0].ids
    ids, mask = pad_left([prompt] * 6, backbone.pad_id, backbone.device)
    uniforms = torch.rand(6, 8, generator=torch.Generator().manual_seed(1))
    first, again = (sampler.generate(ids, mask, Sampling(8, 1.0), uniforms=uniforms) for _ in range(2))
    assert len({tuple(row) for row in first.response_ids.tolist()}) == 6
    assert torch.equal(first.response_ids, again.response_ids)
    other = sampler.generate(ids[3:], mask[3:], Sampling(8, 1.0), uniforms=uniforms[3:])
    width = other.response_ids.shape[1]
    assert torch.equal(other.response_ids, first.response_ids[3:, :width])
    assert len({seed_of(bytes([number])) for number in range(200)}) == 200


def test_each_set_of_weights_has_a_name_of_its_own(elsewhere: Actors, server: VllmServer) -> None:
    answers(elsewhere)
    answers(elsewhere, iteration=1)  # the same weights: nothing is sent
    assert [line.split()[0] for line in server.log] == ["load"]
    move(elsewhere)
    answers(elsewhere)
    assert [line.split()[0] for line in server.log] == ["load", "load", "unload"]
    names = [line.split()[1] for line in server.log]
    assert names[0] == names[2] != names[1]
    assert server.loaded == [names[1]]
    with VllmServer(server.base) as another:  # and another run has other names
        sampler = VllmSampler(another.url, elsewhere.backbone, server.base)
        sampler.publish(POLICY)
        assert another.loaded[0] not in names
        sampler.close()


@pytest.mark.parametrize("fault", ["serves the first adapter", "serves the base"])
def test_a_stale_adapter_stops_the_run(elsewhere: Actors, server: VllmServer, fault: str) -> None:
    if fault == "serves the first adapter":
        answers(elsewhere)
    server.faults.add(fault)
    move(elsewhere, by=0.02)
    with pytest.raises(SelfCheckError, match="the sampler") as stopped:
        setup = make_setup(elsewhere, make_params(temperature=TEMPERATURE, microbatch=4, response_tokens=TOKENS))
        step(setup, Progress.start(setup.params))
    assert "\n" not in str(stopped.value)


def test_in_low_precision_a_stale_adapter_is_found_by_whom_it_resembles() -> None:
    """The largest gap of a token says nothing where rounding is wider than an update: the sound and the stale are both
    within it. The mean gap to the older policy tells."""
    noise = torch.Generator().manual_seed(0)
    now = -torch.rand(32, 20, generator=noise)
    before = now + 0.05 * torch.randn(now.shape, generator=noise)
    rounding = 0.01 * torch.randn(now.shape, generator=noise)
    mask = torch.ones(32, 20, dtype=torch.bool)
    check_fresh(now + rounding, now, {"the one before": before}, mask)
    with pytest.raises(SelfCheckError, match="answers as the one before does"):
        check_fresh(before + rounding, now, {"the one before": before}, mask)
    check_fresh(now + rounding, now, {"itself": now}, mask)  # a policy that has not moved is no older one
    still = now + 1e-4 * torch.randn(now.shape, generator=noise)
    check_fresh(now + rounding, now, {"the one before": still}, mask)  # nor is one that rounding hides


def test_logprobs_of_another_temperature_stop_the_run(elsewhere: Actors, server: VllmServer) -> None:
    """vLLM's own default, before temperature: --logprobs-mode says otherwise."""
    server.faults.add("raw logprobs")
    setup = make_setup(elsewhere, make_params(temperature=TEMPERATURE, response_tokens=TOKENS))
    with pytest.raises(SelfCheckError, match="sampler"):
        step(setup, Progress.start(setup.params))


def test_a_step_with_it_is_a_step_of_ppo(elsewhere: Actors) -> None:
    """The first ratio is 1, as with the native sampler."""
    setup: Setup = make_setup(elsewhere, make_params(temperature=TEMPERATURE, response_tokens=TOKENS))
    made, stats = step(setup, Progress.start(setup.params))
    assert stats.first_ratio_gap < 1e-4
    assert made.measures.sampler_gap < 1e-3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("another model", "'base', and 'policy-"),
        ("cut prompt", "another prompt"),
        ("no ids", "no tokens"),
        ("no choices", "no ids or logprobs"),
        ("other tokens", "other tokens than it sampled"),
        ("nan", "not finite"),
        ("outside", "outside of the vocabulary"),
        ("short", "without an end token"),
        ("goes on", "after its end token"),
        ("refuses to load", "answered 404: .*No adapter found"),
        ("no json", "no JSON object"),
    ],
)
def test_an_answer_that_is_none_is_one_line(elsewhere: Actors, server: VllmServer, fault: str, said: str) -> None:
    if fault != "refuses to load":
        elsewhere.sampler.publish(POLICY)
    server.faults.add(fault)
    with pytest.raises(UserError, match=said) as refused:
        answers(elsewhere)
    assert str(refused.value).startswith("ppo.sampler_url: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda server: server.faults.add("takes no weights"), "takes no weights while it runs"),
        (lambda server: setattr(server, "root", "/elsewhere"), "has loaded /elsewhere"),
        (lambda server: setattr(server, "context", 64), "--max-model-len 64"),
    ],
)
def test_a_server_that_does_not_fit_is_refused_at_the_start(
    server: VllmServer, llama_actors: Actors, change: Callable[[VllmServer], None], said: str
) -> None:
    change(server)
    with pytest.raises(UserError, match=said):
        VllmSampler(server.url, llama_actors.backbone, server.base)


def test_no_server_is_one_line(llama_actors: Actors, tiny_llama_dir: Path) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/version cannot be reached .*make vllm"):
        VllmSampler("http://127.0.0.1:9", llama_actors.backbone, tiny_llama_dir)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8123", "http://10.0.0.1:8123", "http://example.org:80", "https://127.0.0.1:8123", "http://127.0.0.1",
     "http://127.0.0.1:x", "http://me:pw@127.0.0.1:8123", "http://127.0.0.1:8123/v1", "file:///x", "http://127.0.0.1:0"],
)  # fmt: skip
def test_addresses_of_other_machines_are_refused(url: str) -> None:
    with pytest.raises(UserError, match=re.escape("http://127.0.0.1:<port> is needed")):
        check_address(url)


def test_addresses_of_this_machine() -> None:
    for url in ("http://127.0.0.1:8123", "http://localhost:8123/", "http://[::1]:8123"):
        assert check_address(url) == url.rstrip("/")


def test_architectures_without_lora_get_merged_weights(actors: Actors, merged_server: VllmServer) -> None:
    """From the pristine base each time, in float32; the second set is not the first one plus a change."""
    sampler = VllmSampler(merged_server.url, actors.backbone, merged_server.base)
    assert sampler.version == {"vllm": "0.32.0", "vllm_weights": "merged in float32"}
    server_side = replace(actors, engine_elsewhere=sampler)
    for _ in range(3):
        assert gap(answers(server_side)) < 1e-4
        move(actors, by=0.1)
    assert merged_server.log == ["reload", "torch.float32"] * 3
    merged_server.faults.add("keeps its weights")
    with pytest.raises(SelfCheckError, match="the policy before the newest"):
        answers(server_side)
    sampler.close()


def test_a_merge_is_the_base_plus_the_product(tiny_model_dir: Path, tiny_adapter_dir: Path, tmp_path: Path) -> None:
    """W + alpha / r (B A), by hand from the files; GPT-2 keeps its weights transposed."""
    from safetensors.torch import load_file

    merge(tiny_model_dir, tiny_adapter_dir, tmp_path / "merged")
    base, after = (load_file(folder / "model.safetensors") for folder in (tiny_model_dir, tmp_path / "merged"))
    adapter = load_file(tiny_adapter_dir / "adapter_model.safetensors")
    config = json.loads((tiny_adapter_dir / "adapter_config.json").read_text())
    name = "transformer.h.0.attn.c_attn"
    low, high = (adapter[f"base_model.model.{name}.lora_{part}.weight"].double() for part in "AB")
    expected = base[f"{name}.weight"].double() + config["lora_alpha"] / config["r"] * (high @ low).T
    assert float((after[f"{name}.weight"].double() - expected).abs().max()) < 1e-6
    assert after[f"{name}.weight"].dtype == torch.float32
    untouched = "transformer.wte.weight"
    assert torch.equal(base[untouched], after[untouched])


def test_the_native_sampler_is_the_backbone(actors: Actors) -> None:
    """It is what samples by default, with the bytes of `Backbone.generate`."""
    assert actors.engine_elsewhere is None
    sampler = actors.sampler
    assert isinstance(sampler, NativeSampler)
    assert (sampler.version, dict(sampler.previous)) == ({}, {})
    sampler.publish(POLICY)
    ids, mask = pad_left([prompt.ids for prompt in make_prompts(actors)], actors.backbone.pad_id, "cpu")
    uniforms = torch.rand(len(ids), 8, generator=torch.Generator().manual_seed(3))
    own = sampler.generate(ids, mask, Sampling(8, 1.0), uniforms=uniforms)
    direct = actors.backbone.generate(ids, mask, Sampling(8, 1.0), adapter=POLICY, uniforms=uniforms)
    assert isinstance(own, Generation)
    assert not isinstance(own, Sampled)
    for name in ("response_ids", "logprobs", "states", "entropy", "ended"):
        assert torch.equal(getattr(own, name), getattr(direct, name))
    sampler.close()


def test_rescore_never_does_not_go_with_a_server() -> None:
    with pytest.raises(ValueError, match="found never with sampler vllm"):
        make_params(sampler="vllm", rescore="never")
    make_params(sampler="vllm", rescore="auto")
