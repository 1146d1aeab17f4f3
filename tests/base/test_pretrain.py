import math
from pathlib import Path

import pytest
import torch

from rlhf.base.make import make_base
from rlhf.base.params import BaseParams
from rlhf.base.pretrain import as_batch, new_model
from rlhf.core.artifacts import sha256_tree, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.text.load import load_model
from tests.base.helpers import PRETRAIN, cpu
from tests.model_fixtures import byte_bpe

TEXTS = [f"\n\nHuman: What is {n}?\n\nAssistant: {n} is a number." for n in range(60)]


def project(root: Path, rows: list[dict[str, object]]) -> Layout:
    layout = Layout(root)
    write_jsonl(layout.corpus, rows)
    byte_bpe(300).save_pretrained(layout.tokenizer)
    return layout


def make(root: Path, seed: int = 0, **pretrain: object) -> dict[str, float | int | None]:
    layout = project(root, [{"text": text} for text in TEXTS])
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": PRETRAIN | pretrain}
    )
    return make_base(params, layout, cpu(seed), Checkpoints(root / "checkpoints", every_s=1e9, every_steps=0))


def test_pretraining_learns_and_saves_a_model_that_transformers_loads(tmp_path: Path) -> None:
    metrics = make(tmp_path)
    layout = Layout(tmp_path)
    model = load_model(layout.base, dtype=torch.float32, device="cpu")
    # 300 x 32 token and 16 x 32 position embeddings, one block of 12 x 32^2 weights and 13 x 32 biases and norms,
    # the final norm; the output layer is the embedding.
    by_hand = 300 * 32 + 16 * 32 + 12 * 32**2 + 13 * 32 + 2 * 32
    assert metrics["base_parameters"] == sum(p.numel() for p in model.parameters()) == by_hand
    loss, perplexity = metrics["base_validation_loss"], metrics["base_perplexity"]
    assert loss is not None
    assert 0 < loss < math.log(300) - 1  # far better than a uniform guess
    assert perplexity == pytest.approx(math.exp(loss))
    assert metrics["base_best_step"] == 30
    assert model.config.use_cache is True
    curve = (tmp_path / "plots" / "base.csv").read_text()
    assert curve.startswith('"step","train_loss","validation_loss"\n"5",')


@pytest.mark.thorough  # any number of processes writes the same bytes: tests/base/test_processes.py
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, seed)
    hashes = [sha256_tree(Layout(tmp_path / name).base) for name in "abc"]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_weights_are_drawn_from_the_seed_whatever_torch_drew_before() -> None:
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": PRETRAIN}
    ).pretrain
    first = new_model(params, byte_bpe(300), seed=4)
    torch.rand(10)
    state = torch.random.get_rng_state()
    again = new_model(params, byte_bpe(300), seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    spread = float(first.transformer.wte.weight.detach().std())
    assert spread == pytest.approx(0.06, rel=0.05)


def test_all_but_the_first_token_of_a_row_are_labels_and_padding_is_none() -> None:
    batch = as_batch([[5, 6, 7], [8, 9]], pad_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [-100, 9, -100]]


def test_a_row_is_worth_the_same_alone_and_padded() -> None:
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": PRETRAIN}
    ).pretrain
    model = new_model(params, byte_bpe(300), seed=1).eval()
    short, long = [40, 41, 42], list(range(50, 60))
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([short])).logits[0]
        beside = model(input_ids=as_batch([short, long], pad_id=0)["input_ids"]).logits[0, :3]
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-5)


def test_documents_without_two_tokens_are_named(tmp_path: Path) -> None:
    layout = project(tmp_path, [{"text": ""}, {"text": ""}])
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": PRETRAIN}
    )
    with pytest.raises(UserError, match=r"corpus.jsonl: none of 1 documents holds two tokens"):
        make_base(params, layout, cpu(), Checkpoints(tmp_path / "c", every_s=1e9, every_steps=0))


def test_a_bad_row_of_the_corpus_is_named(tmp_path: Path) -> None:
    layout = project(tmp_path, [{"text": "good"}, {"text": 3}])
    params = BaseParams.model_validate(
        {"source": "pretrain", "path": None, "repo": None, "revision": None, "pretrain": PRETRAIN}
    )
    with pytest.raises(UserError, match=r"corpus.jsonl:2: text: expected text, found"):
        make_base(params, layout, cpu(), Checkpoints(tmp_path / "c", every_s=1e9, every_steps=0))
