import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf.measure import drift as subject
from rlhf.measure.drift import exact_kl, sampled_drift, token_kl
from rlhf.measure.responses import Drift
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from tests.evaluate.conftest import TOPICS
from tests.model_fixtures import make_adapter

TEMPERATURE = 0.8
PROMPTS = [f"\n\nHuman: What is a {topic}?\n\nAssistant:" for topic in TOPICS]


@pytest.fixture(scope="module")
def backbone(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("adapters")
    adapters = {"sft": make_adapter(tiny_model_dir, folder / "sft", seed=5)}
    adapters["policy"] = make_adapter(tiny_model_dir, folder / "policy", seed=6)
    return Backbone.load(tiny_model_dir, adapters, dtype=torch.float32, device="cpu")


def samples_of(backbone: Backbone, prompts: list[str], adapter: str | None, tokens: int = 10) -> list[Sample]:
    return sample_texts(
        backbone, prompts, adapter=adapter, sampling=Sampling(tokens, TEMPERATURE), stream=(0, "t"),
        batch_size=60,
    )  # fmt: skip


def drift(backbone: Backbone, samples: list[Sample], adapter: str | None, tokens: int = 300) -> Drift:
    return sampled_drift(
        backbone, samples, adapter=adapter, reference="sft", temperature=TEMPERATURE, batch_tokens=tokens
    )


def exact(backbone: Backbone, samples: list[Sample], adapter: str | None, tokens: int = 300) -> tuple[float, ...]:
    return exact_kl(backbone, samples, adapter=adapter, reference="sft", temperature=TEMPERATURE, batch_tokens=tokens)


def distributions(backbone: Backbone, sample: Sample, adapter: str) -> np.ndarray:
    """log p over the vocabulary at each response token, from an unpadded pass of transformers, in float64."""
    prompt = backbone.tokenizer(sample.prompt)["input_ids"]
    backbone.model.set_adapter(adapter)
    with torch.no_grad():
        logits = backbone.model(input_ids=torch.tensor([[*prompt, *sample.response_ids]])).logits[0]
    rows = logits[len(prompt) - 1 : -1].double().numpy() / TEMPERATURE
    return rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1, keepdims=True)


def test_token_kl_by_hand() -> None:
    # p = (.5, .5), q = (.25, .75): .5 log 2 + .5 log(2/3)
    p, q = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(3)]])
    assert float(token_kl(p, q)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert float(token_kl(q + 5, q - 3)) == pytest.approx(0, abs=1e-12)


def test_in_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows, three at a time."""
    monkeypatch.setattr(subject, "_ROWS", 3)
    logits, others = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(7, 5)
    assert torch.equal(subject._in_parts(logits, others), subject.token_kl(logits, others))
    assert len(subject._in_parts(logits[:0], others[:0])) == 0


def test_everything_agrees_with_brute_force(backbone: Backbone) -> None:
    samples = samples_of(backbone, PROMPTS[:5], "policy")
    found, full = drift(backbone, samples, "policy"), exact(backbone, samples, "policy")
    for i, sample in enumerate(samples):
        p, q = (distributions(backbone, sample, adapter) for adapter in ("policy", "sft"))
        taken = np.arange(len(sample.response_ids)), np.array(sample.response_ids)
        ratio = np.exp(q[taken] - p[taken])
        assert found.k1[i] == pytest.approx((p[taken] - q[taken]).sum(), abs=1e-4)
        assert found.k3[i] == pytest.approx((ratio - 1 - np.log(ratio)).sum(), rel=1e-4, abs=1e-4)
        assert found.entropy[i] == pytest.approx(-(np.exp(p) * p).sum(1).mean(), abs=1e-4)
        assert found.tokens[i] == len(sample.response_ids)
        assert full[i] == pytest.approx((np.exp(p) * (p - q)).sum(), abs=1e-4)


def test_sampled_kl_agrees_with_exact_within_its_error(backbone: Backbone) -> None:
    prompts = [f"{prompt} {n}" for n in range(20) for prompt in PROMPTS]
    samples = samples_of(backbone, prompts, "policy", tokens=6)
    found, full = drift(backbone, samples, "policy", 4000), exact(backbone, samples, "policy", 4000)
    assert np.mean(full) > 0.05
    for estimate in (found.k1, found.k3):
        difference = np.array(estimate) - np.array(full)
        assert abs(difference.mean()) < 4 * difference.std(ddof=1) / math.sqrt(len(samples))


def test_a_policy_has_not_drifted_from_itself(backbone: Backbone) -> None:
    samples = samples_of(backbone, PROMPTS[:4], "sft")
    found = drift(backbone, samples, "sft")
    assert found.k1 == found.k3 == exact(backbone, samples, "sft") == (0.0,) * 4
    assert min(found.entropy) > 0


@pytest.mark.parametrize("adapter", ["policy", None])
def test_neither_batching_nor_order_matters(backbone: Backbone, adapter: str | None) -> None:
    samples = samples_of(backbone, PROMPTS[:6], adapter)
    first, second = drift(backbone, samples, adapter, 2000), drift(backbone, samples[::-1], adapter, 1)
    assert first.k1 == pytest.approx(second.k1[::-1], abs=1e-4)
    assert first.tokens == second.tokens[::-1]
    backward = exact(backbone, samples[::-1], adapter, 1)[::-1]
    assert exact(backbone, samples, adapter, 2000) == pytest.approx(backward, abs=1e-4)


def test_no_samples_no_kl(backbone: Backbone) -> None:
    assert exact(backbone, [], "policy") == ()
