import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.base.local import copy_model
from rlhf.base.make import make_base
from rlhf.base.params import BaseParams
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.text.load import load_tokenizer
from tests.base.helpers import PRETRAIN, cpu


@pytest.fixture
def source(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "source"))


def copied(source: Path) -> Path:
    target = source.parent / "artifacts" / "base"
    copy_model(source, target, dtype=torch.float32)
    return target


def refused(source: Path, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        copied(source)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "artifacts" / "base").exists()


def test_a_copy_holds_the_same_weights_and_no_code(source: Path) -> None:
    (source / "modeling_custom.py").write_text("raise SystemExit")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    (source / "LICENSE").write_text("terms")
    target = copied(source)
    assert (target / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert (target / "LICENSE").exists()
    assert not {"modeling_custom.py", "pytorch_model.bin"} & {item.name for item in target.iterdir()}
    AutoModelForCausalLM.from_pretrained(target, local_files_only=True)
    ids = [AutoTokenizer.from_pretrained(folder)("Human")["input_ids"] for folder in (source, target)]
    assert ids[0] == ids[1]


def test_llama_is_copied_as_well(tiny_llama_dir: Path, tmp_path: Path) -> None:
    model = copy_model(tiny_llama_dir, tmp_path / "base", dtype=torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"


def test_real_model(shared_data: Path, tmp_path: Path) -> None:
    model = copy_model(shared_data / "stories260K", tmp_path / "base", dtype=torch.float32)
    assert model.num_parameters() == 260_032  # as its source says
    tokenizer = load_tokenizer(tmp_path / "base")
    ids = torch.tensor([[tokenizer.bos_token_id]])
    text = tokenizer.decode(model.generate(ids, max_new_tokens=30, do_sample=False)[0], skip_special_tokens=True)
    assert text.startswith("Once upon a time, there was a little girl named Lily. She loved to play outside")


def test_sharded_weights(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    names = sorted(weights)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, source / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    (source / "model.safetensors").unlink()
    target = copied(source)
    assert {item.name for item in target.glob("*.safetensors")} == set(shards)
    shutil.rmtree(target)
    (source / "model-2.safetensors").unlink()
    refused(source, r"model-2.safetensors is missing \(1 of 2 shards")


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", r"base.path: .*nowhere: no such folder")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"no config.json")


def test_no_weights(source: Path) -> None:
    (source / "model.safetensors").unlink()
    refused(source, r"no weights; model.safetensors is needed")


def test_pickled_weights_only(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    refused(source, r"pytorch_model.bin, which is pickle; convert them to safetensors")


def test_truncated_weights(source: Path) -> None:
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(source, r"source: ")


def test_no_tokenizer(source: Path) -> None:
    (source / "tokenizer.json").unlink()
    refused(source, r"no tokenizer; expected one of tokenizer.json, vocab.json")


def test_a_config_that_is_not_json(source: Path) -> None:
    (source / "config.json").write_text("{")
    refused(source, r"config.json:1: not JSON")


def test_an_unknown_architecture(source: Path) -> None:
    change(source / "config.json", model_type="warp_drive")
    refused(source, r'model_type "warp_drive" is no causal language model')


def test_code_from_a_repository_is_refused(source: Path) -> None:
    change(source / "config.json", model_type="warp_drive", auto_map={"AutoModelForCausalLM": "modeling_warp.Warp"})
    refused(source, r"needs code from the repository, which is never run")


def test_an_encoder_is_refused(source: Path) -> None:
    change(source / "config.json", model_type="t5")
    refused(source, r'model_type "t5" is no causal language model')


def test_a_tokenizer_larger_than_the_model(source: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([f"<extra-{index}>" for index in range(5)])
    tokenizer.save_pretrained(source)
    refused(source, r"the tokenizer has 325 tokens, the model only 320")


def test_metrics_of_a_copy_have_no_training(source: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "project")
    params = BaseParams.model_validate(
        {"source": "path", "path": str(source), "repo": None, "revision": None, "pretrain": PRETRAIN}
    )
    metrics = make_base(params, layout, cpu(), Checkpoints(tmp_path / "c", every_s=1e9, every_steps=0))
    parameters = metrics.pop("base_parameters")
    assert isinstance(parameters, int)
    assert parameters == 320 * 32 + 128 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32
    assert set(metrics.values()) == {None}
    assert layout.plot("base").read_text() == '"step","train_loss","validation_loss"\n'


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
