import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.core.artifacts import read_jsonl, sha256_tree, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.text.load import load_tokenizer
from rlhf.sft.examples import collator, read_examples, validation_batches
from rlhf.sft.params import LoraParams
from rlhf.sft.run import run_sft
from rlhf.sft.train import finetune, perplexity, with_adapter
from rlhf.training.token_loss import token_loss
from tests.sft.helpers import cpu, params, project, row


def run(layout: Layout, seed: int = 0, dtype: str = "float32", **changes: object) -> dict[str, float | int | None]:
    checkpoints = Checkpoints(layout.root / "checkpoints", every_s=1e9, every_steps=0)
    return run_sft(params(**changes), layout, cpu(seed, dtype), checkpoints)


def test_the_adapter_loads_with_plain_peft_and_gives_the_reported_perplexity(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An oracle of its own: plain transformers and peft, one sequence at a time, no padding, no masks."""
    project(tmp_path, tiny_model_dir)
    monkeypatch.chdir(tmp_path)
    metrics = run(Layout())
    config = json.loads(Path("artifacts/sft/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "artifacts/base"
    assert config["fan_in_fan_out"] is True
    tokenizer = AutoTokenizer.from_pretrained("artifacts/sft")
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    adapted = PeftModel.from_pretrained(base, "artifacts/sft").eval()

    def by_hand() -> float:
        losses = []
        for pair in read_jsonl(Path("artifacts/prepare/pairs/test.jsonl")):
            prompt = tokenizer(pair["prompt"])["input_ids"]
            ids = prompt + tokenizer(pair["chosen"])["input_ids"] + [tokenizer.eos_token_id]
            with torch.no_grad():
                logprobs = adapted(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            losses += [-float(logprobs[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]
        return math.exp(sum(losses) / len(losses))

    assert metrics["sft_perplexity_after"] == pytest.approx(by_hand(), rel=1e-4)
    with adapted.disable_adapter():
        assert metrics["sft_perplexity_before"] == pytest.approx(by_hand(), rel=1e-4)
    assert metrics["sft_perplexity_after"] < metrics["sft_perplexity_before"] / 3  # it learnt


@pytest.mark.parametrize(
    "folder",
    ["tiny_llama_dir", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("tiny_model_dir", "tiny_neox_dir"))],
)
def test_every_architecture_learns_and_to_end(folder: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    layout = project(tmp_path, request.getfixturevalue(folder))
    metrics = run(layout, sample_tokens=40, sample_temperature=0.3, samples=6, epochs=14)
    after, before, ended = (
        metrics[f"sft_{n}"] for n in ("perplexity_after", "perplexity_before", "samples_ended_after")
    )
    assert after is not None
    assert before is not None
    assert ended is not None
    assert after < before / 3
    assert ended > 0.5  # EOS was learnt


def test_the_real_model(shared_data: Path, tmp_path: Path) -> None:
    layout = project(tmp_path, shared_data / "stories260K")
    metrics = run(layout, lr=3e-3)
    after, before = metrics["sft_perplexity_after"], metrics["sft_perplexity_before"]
    assert after is not None
    assert before is not None
    assert after < before


def test_the_base_stays_byte_for_byte_and_only_lora_weights_move(tmp_path: Path, tiny_model_dir: Path) -> None:
    layout = project(tmp_path, tiny_model_dir)
    before_files = sha256_tree(layout.base)
    runtime = cpu()
    model = with_adapter(layout.base, params().lora, runtime)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokenizer = load_tokenizer(layout.base)
    examples = read_examples(layout.pairs / "train.jsonl", tokenizer, context=128, limit=0, seed=0)
    finetune(
        model, train=examples, validation=examples[:4], pad_id=0, params=params(weight_decay=0.1, epochs=1),
        runtime=runtime, checkpoints=Checkpoints(tmp_path / "c", every_s=1e9, every_steps=0),
        curve=tmp_path / "sft.csv",
    )  # fmt: skip
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    lora = {name for name in before if "lora_" in name}
    assert moved == lora
    # rank 4 over two layers: c_attn 32 -> 96, the attention's c_proj 32 -> 32, the MLP's c_proj 128 -> 32
    assert sum(before[name].numel() for name in lora) == 2 * 4 * ((32 + 96) + (32 + 32) + (128 + 32))
    assert sha256_tree(layout.base) == before_files


def test_before_training_the_adapter_is_the_base(tiny_model_dir: Path) -> None:
    model = with_adapter(tiny_model_dir, params().lora, cpu())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        adapted = model(ids).logits
        with model.disable_adapter():
            assert torch.equal(adapted, model(ids).logits)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, tiny_model_dir: Path) -> None:
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        layout = project(tmp_path / name, tiny_model_dir)
        lora = {"rank": 4, "alpha": 8.0, "dropout": 0.1, "targets": "auto"}
        config = run(layout, seed=seed, epochs=2, lora=lora)
        files = ("adapter_model.safetensors", "tokenizer.json")
        hashes.append(([(layout.sft / file).read_bytes() for file in files], config, sha256_tree(layout.sft_samples)))
    assert hashes[0] == hashes[1]
    assert hashes[0][0][0] != hashes[2][0][0]


def test_dynamic_padding_never_changes_the_loss(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Every split into batches, and far more padding than needed, gives the loss of each sequence alone."""
    layout = project(tmp_path, tiny_model_dir)
    model = with_adapter(layout.base, params().lora, cpu())
    tokenizer = load_tokenizer(layout.base)
    examples = read_examples(layout.pairs / "train.jsonl", tokenizer, context=128, limit=0, seed=0)
    device = torch.device("cpu")
    alone = token_loss(model, validation_batches(examples, 1, 0), device)
    for size in (3, 20):
        assert token_loss(model, validation_batches(examples, size, 7), device) == pytest.approx(alone, abs=1e-5)
    batch = collator(3)(examples)
    wide = {
        name: nn.functional.pad(tensor, (0, 30), value={"labels": -100, "attention_mask": 0}.get(name, 3))
        for name, tensor in batch.items()
    }
    assert token_loss(model, [wide], device) == pytest.approx(alone, abs=1e-5)


def test_replies_before_and_after_are_to_the_same_prompts(tmp_path: Path, tiny_model_dir: Path) -> None:
    layout = project(tmp_path, tiny_model_dir)
    twice = [row(1), row(1), row(2), row(3), row(5)]
    write_jsonl(layout.pairs / "test.jsonl", [r | {"id": f"t{i}"} for i, r in enumerate(twice)])
    run(layout, epochs=1)
    samples = read_jsonl(layout.sft_samples)
    assert [sample["id"] for sample in samples] == ["t0", "t2", "t3"]  # distinct prompts, as many as asked for
    assert [sample["prompt"] for sample in samples] == [row(n)["prompt"] for n in (1, 2, 3)]
    assert all(sample["before"] != sample["after"] for sample in samples)


def test_without_training_before_and_after_are_the_same(tmp_path: Path, tiny_model_dir: Path) -> None:
    """The same draws serve both: with an adapter that does (almost) nothing the replies are equal."""
    layout = project(tmp_path, tiny_model_dir)
    metrics = run(layout, lr=1e-12, epochs=1)
    assert all(sample["before"] == sample["after"] for sample in read_jsonl(layout.sft_samples))
    assert metrics["sft_perplexity_after"] == pytest.approx(metrics["sft_perplexity_before"], rel=1e-4)


def test_perplexity_of_a_model_that_knows_nothing(tmp_path: Path, tiny_model_dir: Path) -> None:
    layout = project(tmp_path, tiny_model_dir)
    runtime = cpu()
    model = with_adapter(layout.base, LoraParams(rank=2, alpha=4.0, dropout=0.0, targets="auto"), runtime)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    tokenizer = load_tokenizer(layout.base)
    examples = read_examples(layout.pairs / "test.jsonl", tokenizer, context=128, limit=0, seed=0)
    found = perplexity(model, examples, size=4, pad_id=0, runtime=runtime)
    assert (found.before, found.after) == (pytest.approx(320.0, rel=1e-5), pytest.approx(320.0, rel=1e-5))


def test_accumulation_is_one_larger_batch(tmp_path: Path, tiny_model_dir: Path) -> None:
    weights = []
    for name, batch, accumulate in (("a", 4, 1), ("b", 2, 2)):
        layout = project(tmp_path / name, tiny_model_dir)
        run(layout, batch_size=batch, accumulate=accumulate, lr=1e-3, samples=0, epochs=2)
        model = AutoModelForCausalLM.from_pretrained(layout.base)
        adapted = PeftModel.from_pretrained(model, layout.sft)
        weights.append({n: p for n, p in adapted.named_parameters() if "lora_" in n})
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=2e-4, rtol=1e-3)


def test_bfloat16(tmp_path: Path, tiny_llama_dir: Path) -> None:
    layout = project(tmp_path, tiny_llama_dir)
    metrics = run(layout, dtype="bfloat16")
    after, before = metrics["sft_perplexity_after"], metrics["sft_perplexity_before"]
    assert after is not None
    assert before is not None
    assert after < before / 2


def test_samples_that_do_not_fit_the_context_are_refused_before_training(tmp_path: Path, tiny_model_dir: Path) -> None:
    layout = project(tmp_path, tiny_model_dir)
    with pytest.raises(UserError, match=r"sft.sample_tokens: found 125; .* context is 128, so at most \d+ are allowed"):
        run(layout, sample_tokens=125)
    assert not layout.plot("sft").exists()


def test_unknown_targets_are_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    layout = project(tmp_path, tiny_model_dir)
    with pytest.raises(UserError, match=r"'q_proj' is no layer"):
        run(layout, lora={"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["q_proj"]})
