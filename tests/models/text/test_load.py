"""Models and tokenizers from folders: frozen, without dropout, and refused in one line if something is missing."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf.core.errors import UserError
from rlhf.models.text.load import load_model, load_tokenizer


def copy(source: Path, target: Path, *, without: str = "nothing") -> Path:
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns(without)))


def test_frozen_without_dropout(model_dir: Path) -> None:
    model = load_model(model_dir, dtype=torch.float32, device="cpu").train()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    ids = torch.arange(3, 20).unsqueeze(0)
    assert torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("without", "words"),
    [("config.json", "no config.json"), ("*.safetensors", "no weights"), ("tokenizer*", "no tokenizer; one of")],
)
def test_a_missing_part_is_named(tiny_model_dir: Path, tmp_path: Path, without: str, words: str) -> None:
    folder = copy(tiny_model_dir, tmp_path / "model", without=without)
    with pytest.raises(UserError, match=words) as caught:
        (load_tokenizer if "token" in without else lambda f: load_model(f, dtype=torch.float32, device="cpu"))(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model_dir, tmp_path / "model", without="*.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, which is pickle"):
        load_model(folder, dtype=torch.float32, device="cpu")


def test_truncated_weights_are_one_line(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model_dir, tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load the model"):
        load_model(folder, dtype=torch.float32, device="cpu")


def test_weights_that_lack_a_tensor_are_not_made_up(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model_dir, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 tensors, transformer\.h\.1\.mlp\.c_fc\.weight first"):
        load_model(folder, dtype=torch.float32, device="cpu")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        load_model(tmp_path / "nowhere", dtype=torch.float32, device="cpu")
    with pytest.raises(UserError, match="not a folder"):
        load_tokenizer(tmp_path / "nowhere")


def test_pad_token_is_there(tiny_model_dir: Path, tiny_llama_dir: Path) -> None:
    assert load_tokenizer(tiny_model_dir).pad_token == "<|endoftext|>"
    assert load_tokenizer(tiny_llama_dir).pad_token == "<unk>"
