"""An engine is used where it computes the model's own numbers, and nowhere else."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import rlhf.models.policy.backbone as plain_engine
from rlhf.conformance.run import run_conformance
from rlhf.core.artifacts import read_json, write_json
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.fast.backbone import FastBackbone
from rlhf.models.fast.engine import load_checked
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import Episodes
from tests.conformance.kinds import cpu, make, own_logprobs
from tests.model_fixtures import make_adapter

PROMPTS = [[40, 51, 62, 73, 84, 95, 30, 31], [77, 12], [9, 200, 41, 150, 33]]
RESPONSES = [[14, 15], [60, 61, 62, 63], [90]]


def check(kind: str, root: Path, *, dtype: str = "float32", **changes: Any) -> tuple[Layout, dict[str, Any]]:
    layout = Layout(root)
    make(kind, layout.base, **changes)
    return layout, run_conformance(layout, targets="auto", longest=60, runtime=cpu(dtype))


def refusal(kind: str, root: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(kind, root, **changes)
    assert "\n" not in str(caught.value)
    assert not Layout(root).conformance.exists()
    return str(caught.value)


def gap(backbone: Backbone, base: Path, adapter: str | None = None, folder: Path | None = None) -> float:
    """How far a padded batch, scored and sampled, is from plain transformers, in nats."""
    episodes = Episodes.of(PROMPTS, RESPONSES, pad_id=backbone.pad_id, device="cpu")
    with torch.no_grad():
        scored = backbone.forward(episodes, adapter=adapter, temperature=1.0).logprobs
    uniforms = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    made = backbone.generate(
        episodes.prompt_ids, episodes.prompt_mask, Sampling(5, 1.0), adapter=adapter, uniforms=uniforms
    )
    apart = 0.0
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        drawn = made.response_ids[row][made.mask[row]].tolist()
        for ids, ours in ((response, scored[row]), (drawn, made.logprobs[row])):
            own = own_logprobs(base, prompt, ids, folder)
            apart = max(apart, *(abs(float(a) - b) for a, b in zip(ours, own, strict=False)))
    return apart


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_both_engines_agree_with_usual_models(kind: str, tmp_path: Path) -> None:
    layout, metrics = check(kind, tmp_path)
    assert read_json(layout.conformance) == {"engines": ["fast", "plain"]}
    assert metrics["conformance_engine"] == "fast"
    assert max(metrics["conformance_fast_nats"], metrics["conformance_plain_nats"]) < 1e-4
    assert metrics["conformance_allowed_nats"] == 1e-3


@pytest.mark.parametrize(
    "changes", [{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}], ids=lambda c: next(iter(c))
)
def test_a_variant_that_the_fast_engine_gets_wrong_runs_on_the_plain_one(
    changes: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, metrics = check("gpt2", tmp_path, **changes)
    assert read_json(layout.conformance) == {"engines": ["plain"]}
    assert metrics["conformance_fast_nats"] > 1e-2
    assert metrics["conformance_plain_nats"] < 1e-4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("conformance: the fast engine is not used: logprobs of")
    assert line.endswith("the plain engine is used")


def test_the_fast_engine_is_wrong_where_it_is_not_used(tmp_path: Path) -> None:
    """Else the test before this one would hold for a check that always says no."""
    base = make("gpt2", tmp_path / "base", scale_attn_weights=False)
    plain = Backbone.load(base, {}, dtype=torch.float32, device="cpu")
    assert gap(plain, base) < 1e-4
    assert gap(FastBackbone(plain.model, plain.tokenizer), base) > 1e-2


def test_what_was_decided_is_kept_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = Layout(tmp_path)
    make("gpt2", layout.base)
    given: dict[str, Any] = {"engine": "fast", "dtype": torch.float32, "device": "cpu", "decided": layout.conformance}
    assert isinstance(load_checked(layout.base, {}, **given), FastBackbone)
    write_json(layout.conformance, {"engines": ["plain"]})
    with caplog.at_level(logging.WARNING):
        assert type(load_checked(layout.base, {}, **given)) is Backbone
    assert "engines.json says that the fast engine disagrees; the plain engine is used" in caplog.text


def ignores_padding(mask: torch.Tensor) -> torch.Tensor:
    return torch.arange(mask.shape[1]).expand(mask.shape).clone()


def test_a_wrong_plain_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_engine, "position_ids", ignores_padding)
    line = refusal("gpt2", tmp_path)
    assert "GPT2LMHeadModel cannot be used, its own probabilities are not reproduced: logprobs of" in line
    assert "nats apart; 0.001 is allowed" in line


def test_a_wrong_plain_engine_is_refused_in_bfloat16_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, metrics = check("gpt2", tmp_path / "right", dtype="bfloat16")
    assert metrics["conformance_allowed_nats"] > 1e-3
    assert metrics["conformance_plain_nats"] <= metrics["conformance_allowed_nats"]
    monkeypatch.setattr(plain_engine, "position_ids", ignores_padding)
    assert "nats apart" in refusal("gpt2", tmp_path / "wrong", dtype="bfloat16")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bart", r"BartForCausalLM cannot be used, .* nats apart; 0.001 is allowed"),
        ("openai-gpt", r"OpenAIGPTModel gives no key-value cache, which sampling needs"),
    ],
)
def test_models_that_cannot_be_padded_or_sampled_are_refused(kind: str, words: str, tmp_path: Path) -> None:
    assert re.search(words, refusal(kind, tmp_path))


@pytest.mark.parametrize(
    "kind", ["bloom", pytest.param("mpt", marks=pytest.mark.thorough), "modernbert-decoder", "gemma2", "cohere"]
)
def test_kinds_that_used_to_fail_or_to_be_wrong(kind: str, tmp_path: Path) -> None:
    """No table of positions (BLOOM, MPT); a layer before the head (ModernBERT); a cap and a scale behind it."""
    layout, metrics = check(kind, tmp_path)
    assert metrics["conformance_engine"] == "plain"
    assert gap(Backbone.load(layout.base, {}, dtype=torch.float32, device="cpu"), layout.base) < 1e-4


def test_states_of_another_width_than_the_hidden_size(tmp_path: Path) -> None:
    """OPT-350m's shape: the head reads 16 numbers a token, the config says 32."""
    layout, _ = check("opt", tmp_path, word_embed_proj_dim=16, do_layer_norm_before=False)
    backbone = Backbone.load(layout.base, {}, dtype=torch.float32, device="cpu")
    episodes = Episodes.of(PROMPTS, RESPONSES, pad_id=backbone.pad_id, device="cpu")
    assert backbone.hidden_size == backbone.forward(episodes, adapter=None, temperature=1.0).hidden.shape[-1] == 16


def test_an_adapter_on_the_head_is_not_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = make("llama", tmp_path / "base", tie_word_embeddings=False)
    adapter = make_adapter(base, tmp_path / "adapter", seed=5, targets=["lm_head", "down_proj", "q_proj"])
    plain = Backbone.load(base, {"policy": adapter}, dtype=torch.float32, device="cpu")
    assert gap(FastBackbone(plain.model, plain.tokenizer), base, "policy", adapter) > 1e-2
    with caplog.at_level(logging.WARNING):
        backbone = load_checked(
            base, {"policy": adapter}, engine="fast", trainable=("policy",), dtype=torch.float32, device="cpu",
            decided=tmp_path / "none.json",
        )  # fmt: skip
    assert type(backbone) is Backbone
    assert f"with the adapter of {adapter}: logprobs of" in caplog.text
    assert gap(backbone, base, "policy", adapter) < 1e-4
    weights = backbone.parameters_of("policy")
    assert sum("lm_head" in name for name in weights) == 2
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    episodes = Episodes.of(PROMPTS, RESPONSES, pad_id=backbone.pad_id, device="cpu")
    (-backbone.forward(episodes, adapter="policy", temperature=1.0).logprobs.sum()).backward()
    torch.optim.SGD(list(weights.values()), lr=0.1).step()
    assert [name for name, weight in weights.items() if torch.equal(weight, before[name])] == []


def test_tensors_that_no_training_moves_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An adapter on a layer that the model never calls."""
    base = make("llama", tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", seed=5, targets=["q_proj", "up_proj"])
    plain = Backbone.load(base, {"policy": adapter}, trainable=("policy",), dtype=torch.float32, device="cpu")
    mlp: Any = plain.model.get_base_model().model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)))
    from rlhf.models.policy.probe import draw_probe
    from rlhf.models.policy.trained import check_training

    found = check_training(plain, draw_probe(plain.tokenizer, context=128), "policy")
    assert found.reason is None
    assert [name.split("layers.")[1] for name in found.still] == [
        "1.mlp.up_proj.lora_A.policy.weight", "1.mlp.up_proj.lora_B.policy.weight",
    ]  # fmt: skip


def test_a_gradient_that_an_engine_loses_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are right, but nothing that it returns can train."""
    base = make("llama", tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter", seed=5)
    given: dict[str, Any] = {"engine": "plain", "dtype": torch.float32, "device": "cpu", "decided": tmp_path / "x"}
    hidden = Backbone._hidden

    def detached(self: Backbone, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = hidden(self, ids, mask)
        return states.detach() + 0 * next(iter(self.parameters_of("policy").values())).sum()

    monkeypatch.setattr(Backbone, "_hidden", detached)
    load_checked(base, {"policy": adapter}, **given)  # sampled from, never trained
    with pytest.raises(UserError, match=r"the model's own probabilities are not reproduced .*gradient"):
        load_checked(base, {"policy": adapter}, trainable=("policy",), **given)


def test_no_layer_of_a_name_in_the_targets(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    make("gpt2", layout.base)
    with pytest.raises(UserError, match=r"lora targets: 'q_proj' is no layer of GPT2LMHeadModel; allowed:"):
        run_conformance(layout, targets=["q_proj"], longest=60, runtime=cpu())


def test_no_memory_is_no_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(Backbone, "_hidden", full)
    assert "not enough memory to check the model (OutOfMemoryError: CUDA out of memory." in refusal("gpt2", tmp_path)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.conformance import main

    monkeypatch.chdir(tmp_path)
    make("gpt2", Path("artifacts/base"))
    runtime = {"device": "cpu", "dtype": "float32", "threads": 1, "portable": False, "checkpoint_s": 60.0}
    write_json(
        Path("params.resolved.json"),
        {
            "runtime": runtime | {"checkpoint_steps": 0}, "seed": 0, "data": {"max_tokens": 60}, "live": {"to": []},
            "ppo": {"response_tokens": 20}, "sft": {"lora": {"targets": "auto"}},
        },
    )  # fmt: skip
    done = CliRunner().invoke(main, [], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_json(Path("metrics/conformance.json"))["conformance_engine"] == "fast"
    assert read_json(Path("artifacts/conformance/engines.json")) == {"engines": ["fast", "plain"]}
