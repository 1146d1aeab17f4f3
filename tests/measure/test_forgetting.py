"""The alignment tax by hand, against unpadded passes of transformers, and through the whole stage."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from rlhf.core.artifacts import write_jsonl
from rlhf.core.errors import UserError
from rlhf.measure import policies
from rlhf.measure.forgetting import benchmark_metrics, document_logprobs, perplexity, validation_documents
from rlhf.measure.tax import Scored
from rlhf.models.policy.backbone import Backbone
from tests.evaluate.conftest import World, params
from tests.evaluate.test_run import measured
from tests.model_fixtures import make_adapter

SHARED = Path(os.environ.get("RLHF_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
TEXTS = ["The cat sat on the mat.", "Hello", "A much longer text than the others, because it is so."]


def test_the_change_by_hand() -> None:
    base = Scored((1.0, 1.0, 1.0, 1.0), (-1.0, -1.0, -1.0, -1.0))
    sft = Scored((1.0, 1.0, 0.0, 1.0), (-1.0, -1.0, -2.0, -2.0))
    ppo = Scored((1.0, 0.0, 0.0, 0.0), (-1.5, -1.5, -2.5, -2.5))
    found = benchmark_metrics({"base": base, "sft": sft, "ppo": ppo}, "t", 0)
    assert (found["t_base"], found["t_sft"], found["t_ppo"], found["t_items"]) == (1, 0.75, 0.25, 4)
    assert (found["t_gain"], found["t_change"]) == (-0.5, -0.75)
    assert found["t_ppo_low"] == pytest.approx(0.0456, abs=1e-4)  # Wilson for 1 of 4
    assert (found["t_nats_base"], found["t_nats_sft"], found["t_nats_ppo"]) == (1, 1.5, 2)
    assert [found[f"t_nats_gain{end}"] for end in ("", "_low", "_high")] == [0.5] * 3
    assert (found["t_nats_change"], found["t_nats_change_low"] != found["t_nats_change_high"]) == (1, True)


def test_perplexity_is_by_token_and_not_by_document() -> None:
    assert perplexity([(-1.0, 1), (-2.0, 5)]) == pytest.approx(math.exp(3 / 6))


def test_documents_are_read_as_in_pretraining(tiny_model_dir: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_model_dir, tmp_path / "sft", seed=5)
    backbone = Backbone.load(tiny_model_dir, {"sft": adapter}, dtype=torch.float32, device="cpu")
    long = "so " * 3 * backbone.context
    for name in ("sft", None):
        found = document_logprobs(backbone, [*TEXTS, long], adapter=name, batch_tokens=200)
        for text, (nats, tokens) in zip([*TEXTS, long], found, strict=True):
            eos = backbone.eos_id
            ids = [eos, *backbone.tokenizer(text)["input_ids"], eos][: backbone.context]
            backbone.model.set_adapter("sft")
            with torch.no_grad(), backbone.using(name):
                loss = backbone.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
            assert tokens == len(ids) - 1
            assert nats == pytest.approx(-float(loss) * tokens, rel=1e-4)


def test_only_documents_that_pretraining_held_out(tmp_path: Path) -> None:
    from rlhf.models.text.corpus_split import split_documents

    corpus = tmp_path / "corpus.jsonl"
    texts = [f"document {k}" for k in range(100)]
    write_jsonl(corpus, [{"text": text} for text in texts])
    _, held_out = split_documents(texts, validation_share=0.2, seed=3)
    assert validation_documents(corpus, share=0.2, count=99, seed=3) == held_out
    some = validation_documents(corpus, share=0.2, count=5, seed=3)
    assert len(some) == 5
    assert set(some) < set(held_out)
    assert validation_documents(corpus, share=None, count=5, seed=3) == []
    assert validation_documents(tmp_path / "nowhere", share=0.2, count=0, seed=3) == []
    write_jsonl(corpus, [{"text": "a"}, {"words": "b"}])
    with pytest.raises(UserError, match=r"corpus\.jsonl:2: text: expected text, found None"):
        validation_documents(corpus, share=0.2, count=5, seed=3)


def test_the_whole_stage_puts_benchmarks_to_every_policy(world: World, tmp_path: Path) -> None:
    at = world(policy_seed=5)  # PPO is SFT: nothing lost from there
    folder = tmp_path / "benchmarks"
    write_jsonl(folder / "Words.jsonl", [{"context": f"{k} cats", "continuation": "sat"} for k in range(5)])
    write_jsonl(folder / "two.jsonl", [{"query": f"{k}:", "choices": ["a", "b"], "gold": k % 2} for k in range(6)])
    write_jsonl(at.corpus, [{"text": f"The cat sat {k} times."} for k in range(40)])
    settings = params(tax={"path": str(folder), "items": 4, "documents": 10})
    metrics = measured(at, settings, corpus_share=0.2).metrics
    assert (metrics["eval_tax_words_items"], metrics["eval_tax_two_items"]) == (4, 4)
    assert metrics["eval_tax_documents"] == 8
    assert (
        metrics["eval_tax_words_nats_gain"] == metrics["eval_tax_two_gain"] == metrics["eval_tax_perplexity_gain"] == 0
    )
    assert metrics["eval_tax_words_nats_change"] != 0
    assert metrics["eval_tax_perplexity_change"] == pytest.approx(
        metrics["eval_tax_perplexity_ppo"] - metrics["eval_tax_perplexity_base"]  # type: ignore[operator]
    )
    without = measured(at, params(prompts=2, ood_prompts=0, exact_kl_prompts=0, probes=0)).metrics
    assert (without["eval_tax_documents"], without["eval_tax_perplexity_gain"]) == (0, None)


def test_a_broken_row_stops_before_anything_is_sampled(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world()
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps({"context": "a", "continuation": "b"}) + '\n{"context": "a"\n')
    monkeypatch.setattr(policies, "sample_texts", None)
    with pytest.raises(UserError, match=r"broken\.jsonl:2: not a line of JSON") as caught:
        measured(at, params(tax={"path": str(path), "items": 0, "documents": 0}))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "tax").is_dir(), reason=f"no {SHARED / 'tax'}")
def test_real_benchmarks_through_the_stage(world: World, tmp_path: Path) -> None:
    shutil.copytree(SHARED / "tax", tmp_path / "tax")
    metrics = measured(world(), params(tax={"path": str(tmp_path / "tax"), "items": 20, "documents": 0})).metrics
    for policy in ("base", "sft", "ppo"):
        assert 0 <= metrics[f"eval_tax_lambada_500_{policy}"] <= metrics[f"eval_tax_lambada_500_{policy}_high"] <= 1  # type: ignore[operator]
        assert 0.1 <= metrics[f"eval_tax_copa_{policy}"] <= 0.9  # type: ignore[operator]
