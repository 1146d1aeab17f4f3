"""What a model folder holds is used, or refused in one line that names it; nothing is read from outside of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.base.local import copy_model
from rlhf.core.errors import UserError
from rlhf.models.text.context import NO_LIMIT, context_of
from rlhf.models.text.load import load_model, load_tokenizer
from tests.model_fixtures import make_adapter

Spoil = Callable[[Path], object]


@pytest.fixture
def source(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "source"))


def refusal(source: Path) -> str:
    """The line of a refusal that leaves nothing behind."""
    with pytest.raises(UserError) as caught:
        copy_model(source, source.parent / "base", dtype=torch.float32)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not (source.parent / "base").exists()
    return str(caught.value)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    """Change the weights file."""

    def spoil(source: Path) -> None:
        weights = load_file(source / "model.safetensors")
        change(weights)
        save_file(weights, source / "model.safetensors", metadata={"format": "pt"})

    return spoil


def config(**values: object) -> Spoil:
    """Change config.json."""
    return lambda source: change_json(source / "config.json", values)


def change_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


MLP = "transformer.h.1.mlp.c_fc.weight"


def two_shards(source: Path) -> None:
    """Shards that both hold the embedding, one of them zeroed."""
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    name = "transformer.wte.weight"
    save_file(weights, source / "a.safetensors", metadata={"format": "pt"})
    save_file({name: torch.zeros_like(weights[name])}, source / "b.safetensors", metadata={"format": "pt"})
    places = dict.fromkeys(weights, "a.safetensors") | {name: "b.safetensors"}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (tensors(lambda w: w.update(extra=torch.ones(3))), "no place for 1 of the tensors in the weights (extra)"),
        (config(n_layer=1), "of the tensors in the weights (transformer.h.1."),
        (tensors(lambda w: w.pop(MLP)), f"the weights lack 1 tensors, {MLP} first"),
        (config(n_layer=3), "the weights lack 12 tensors, transformer.h.2."),
        (config(n_inner=48), "cannot load the model (RuntimeError: "),
        (tensors(lambda w: w[MLP][0].fill_(torch.nan)), f"weights are not finite: {MLP} holds NaN or infinity"),
        (tensors(lambda w: w[MLP][0, 3].fill_(-torch.inf)), f"weights are not finite: {MLP} holds NaN or infinity"),
        (tensors(lambda w: w.update({MLP: (w[MLP] * 100).to(torch.int8)})), f"{MLP} is stored as I8, as quantised"),
        (tensors(lambda w: w.update({MLP: w[MLP].to(torch.float8_e4m3fn)})), f"{MLP} is stored as F8_E4M3, as"),
        (two_shards, "transformer.wte.weight is in a.safetensors and in b.safetensors"),
        (config(quantization_config={"quant_method": "awq", "bits": 4}), "quantization_config (awq): quantised"),
        (config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantization_config (gptq): quantised"),
        (config(n_head=0), "cannot load the model (ZeroDivisionError"),
        (config(n_head="four"), "Field 'n_head' expected int, got str"),
        (config(n_embd=-32), "cannot load the model ("),
        (config(activation_function="warp"), "cannot load the model (KeyError"),
        (config(model_type=["gpt2"]), 'model_type ["gpt2"] is no causal language model'),
        (lambda source: (source / "config.json").write_text("[]"), "config.json: found list; a JSON object is needed"),
        (lambda source: (source / "config.json").write_text("[" * 100_000), "config.json: not JSON that can be read"),
        (lambda source: (source / "config.json").write_bytes(b"\xff"), "config.json: not UTF-8"),
        (lambda source: (source / "model.safetensors").write_bytes(b""), "cannot load the model ("),
        (lambda source: (source / "tokenizer.json").write_text("{}"), "no readable tokenizer ("),
        (lambda source: (source / "tokenizer.json").write_text("null"), "no readable tokenizer ("),
        (lambda source: (source / "model.safetensors.index.json").write_text("{}"), "which weights are meant?"),
        (lambda source: (source / "model.safetensors").rename(source / "other.safetensors"), "no model.safetensors"),
    ],
)  # fmt: skip
def test_refused_in_one_line(source: Path, spoil: Spoil, words: str) -> None:
    spoil(source)
    assert words in refusal(source)


def test_an_adapter_beside_the_weights(source: Path, tiny_model_dir: Path) -> None:
    make_adapter(tiny_model_dir, source, seed=3)
    assert "adapter_config.json beside the weights; merge the adapter into the model" in refusal(source)


def test_buffers_that_old_checkpoints_keep_are_no_weights(source: Path) -> None:
    mask = torch.ones(128, 128).tril()[None, None]
    tensors(lambda w: w.update({"transformer.h.0.attn.bias": mask}))(source)
    tensors(lambda w: w.update({"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}))(source)
    copy_model(source, source.parent / "base", dtype=torch.float32)


def test_ids_with_gaps_end_within_the_embedding(source: Path) -> None:
    path = source / "tokenizer.json"
    data = json.loads(path.read_text())
    data["added_tokens"].append({
        "id": 4000, "content": "<far>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    })  # fmt: skip
    last = max(data["model"]["vocab"], key=data["model"]["vocab"].get)
    data["model"]["merges"] = [m for m in data["model"]["merges"] if last not in ("".join(m), *m)]
    del data["model"]["vocab"][last]
    data["model"]["vocab"]["<far>"] = 4000
    path.write_text(json.dumps(data))
    line = refusal(source)
    assert "the tokenizer gives '<far>' the id 4000, the model's embedding ends at 319: they do not fit" in line


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "model.py", 7, None]
)
def test_an_index_names_files_of_the_folder_alone(source: Path, name: object) -> None:
    shutil.copy(source / "model.safetensors", source.parent / "outside.safetensors")
    (source / "model.safetensors").unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {MLP: name}}))
    assert f"{MLP}: found {name!r}; the name of a .safetensors file in this folder is needed" in refusal(source)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "LICENSE", "merges.txt"])
def test_a_link_out_of_the_folder_is_refused(source: Path, file: str) -> None:
    secret = source.parent / "secret"
    if (source / file).exists():
        (source / file).rename(secret)
    else:
        secret.write_text("a secret")
    (source / file).symlink_to(secret)
    assert f"{file}: links to a file outside of the model's folder" in refusal(source)
    if file == "tokenizer.json":
        with pytest.raises(UserError, match="links to a file outside"):
            load_tokenizer(source)


def test_links_within_the_folder_and_within_the_librarys_cache_are_files_of_the_model(source: Path) -> None:
    repository = source.parent / "models--someone--tiny"
    snapshot, blobs = repository / "snapshots" / ("a1" * 20), repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    (snapshot / "LICENSE").symlink_to(snapshot / "config.json")
    copy_model(snapshot, source.parent / "base", dtype=torch.float32)
    assert not any(path.is_symlink() for path in (source.parent / "base").iterdir())


def test_weights_that_nothing_reads_are_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(source / "model.safetensors", source / "consolidated.safetensors")
    copy_model(source, source.parent / "base", dtype=torch.float32)
    line = f"base: {source}: not used: consolidated.safetensors (the weights are those of model.safetensors)\n"
    assert capsys.readouterr().err == line
    assert not (source.parent / "base" / "consolidated.safetensors").exists()
    (source / "pytorch_model.bin").write_bytes(b"")
    (source / "lora").mkdir()
    (source / "lora" / "adapter_config.json").write_text("{}")
    copy_model(source, source.parent / "base", dtype=torch.float32)
    assert "not used: consolidated.safetensors, pytorch_model.bin, lora/ (an adapter) (" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ImportError, MemoryError, KeyError, OSError, RecursionError, ZeroDivisionError])
def test_whatever_a_loader_raises_is_one_line(
    source: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error("Loading an AWQ model needs\n\nthe package `gptqmodel`\n" + "x " * 1000)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    line = refusal(source)
    assert f"{source}: cannot load the model ({error.__name__}: " in line
    assert "Loading an AWQ model needs" in line
    assert len(line) < 600


def test_a_generation_config_is_read_or_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source / "generation_config.json"
    path.write_text("{")
    assert "generation_config.json:1: not JSON" in refusal(source)
    path.write_text('{"eos_token_id": ["0"]}')
    assert "eos_token_id" in refusal(source)
    path.write_text('{"eos_token_id": [0, 9], "top_p": 0.9, "repetition_penalty": 1.1, "do_sample": true}')
    capsys.readouterr()
    copy_model(source, source.parent / "base", dtype=torch.float32)
    unused, ends = capsys.readouterr().err.splitlines()
    assert "generation_config.json: repetition_penalty, top_p: not used" in unused
    named = AutoTokenizer.from_pretrained(source).convert_ids_to_tokens(9)
    assert f"replies end at {named!r} too" in ends


def test_what_stops_the_process_is_not_hidden(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", stop)
    with pytest.raises(KeyboardInterrupt):
        load_model(source, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(
    ("found", "context"),
    [
        ({"n_positions": 40, "n_ctx": 30}, 30),
        ({"max_position_embeddings": 2048, "hidden_size": 8}, 2048),
        ({"text_config": {"max_position_embeddings": 64}}, 64),
        ({"max_position_embeddings": -1}, NO_LIMIT),
        ({"max_position_embeddings": True, "n_ctx": "12"}, NO_LIMIT),
        ({}, NO_LIMIT),
    ],
)
def test_the_context_that_a_config_promises(found: dict[str, object], context: int) -> None:
    assert context_of(found) == context


@pytest.mark.parametrize("with_config", [True, False])
def test_a_gguf_is_no_weights(source: Path, *, with_config: bool) -> None:
    (source / "model.safetensors").rename(source / "model-q4.gguf")
    if not with_config:
        (source / "config.json").unlink()
    assert "weights only as model-q4.gguf, a GGUF; make safetensors" in refusal(source)
