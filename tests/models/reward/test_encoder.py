"""A sentence encoder against plain transformers, one text at a time and without padding; folders that are none."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from rlhf.core.errors import UserError
from rlhf.models.reward.encoder import SentenceEncoder
from tests.model_fixtures import WORD_PIECES, lay_out, make_encoder, make_gpt2, save_model

TEXTS = ["sky", "the blue egg is in the water", "", "Paris?", "what is light " * 4]
SIZES: dict[str, Any] = {
    "vocab_size": len(WORD_PIECES), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 44,
}  # fmt: skip
DISTIL: dict[str, Any] = {
    "vocab_size": len(WORD_PIECES), "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40,
    "max_position_embeddings": 44,
}  # fmt: skip


def alone(folder: Path, text: str, *, normalise: bool) -> Tensor:
    """The mean of one text's last states, straight from transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    mean = states.sum(0) / len(states)
    return mean / mean.square().sum().sqrt() if normalise else mean


def embedded(folder: Path, texts: list[str]) -> Tensor:
    encoder = SentenceEncoder.load(folder)
    return encoder.embed([encoder.encode(text, keep="start").ids for text in texts])


def test_embeddings_are_those_of_plain_transformers(tiny_encoder_dir: Path) -> None:
    found = embedded(tiny_encoder_dir, TEXTS)
    for row, text in zip(found, TEXTS, strict=True):
        torch.testing.assert_close(row, alone(tiny_encoder_dir, text, normalise=True), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=0.01)


@pytest.mark.parametrize("name", ["bert", "roberta", *(
    pytest.param(name, marks=pytest.mark.thorough)
    for name in ("albert", "camembert", "distilbert", "electra", "mpnet", "xlm-roberta")
)])  # fmt: skip
def test_every_family_takes_its_longest_text_and_is_not_moved_by_padding(tmp_path: Path, name: str) -> None:
    """A folder without a layout: the plain mean, and the table of positions is the limit."""
    configs = {
        "albert": AlbertConfig(**SIZES, embedding_size=12), "bert": BertConfig(**SIZES),
        "camembert": CamembertConfig(**SIZES), "distilbert": DistilBertConfig(**DISTIL),
        "electra": ElectraConfig(**SIZES, embedding_size=12), "mpnet": MPNetConfig(**SIZES),
        "roberta": RobertaConfig(**SIZES), "xlm-roberta": XLMRobertaConfig(**SIZES),
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(make_encoder(tmp_path / "words"))
    folder = save_model(AutoModel.from_config(configs[name]), tokenizer, tmp_path / name, seed=3)
    encoder = SentenceEncoder.load(folder)
    offset = 2 if name in ("camembert", "mpnet", "roberta", "xlm-roberta") else 0
    assert encoder.folder.max_tokens == 44 - offset
    found = embedded(folder, [*TEXTS, "egg " * 60])
    for row, text in zip(found, [*TEXTS, "egg " * (42 - offset)], strict=True):
        torch.testing.assert_close(row, alone(folder, text, normalise=False), atol=1e-5, rtol=1e-5)


def test_of_a_text_that_is_too_long_the_start_or_the_end_is_kept(tiny_encoder_dir: Path) -> None:
    encoder = SentenceEncoder.load(tiny_encoder_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_dir)
    text = "sky " * 30 + "egg " * 30
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    opening, closing = tokenizer.cls_token_id, tokenizer.sep_token_id
    for keep, kept in (("start", ids[:38]), ("end", ids[-38:])):
        found = encoder.encode(text, keep=keep)  # type: ignore[arg-type]
        assert (list(found.ids), found.cut) == ([opening, *kept, closing], True)
        whole = encoder.encode("sky " * 38, keep=keep)  # type: ignore[arg-type]
        assert (len(whole.ids), whole.cut) == (40, False)


def test_what_tokenizer_json_says_of_cutting_and_padding_is_not_done(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"max_length": 12, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    tokenizer["padding"] = {
        "strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    encoder = SentenceEncoder.load(folder)
    assert [len(encoder.encode("egg " * count, keep="end").ids) for count in (1, 5, 30, 50)] == [3, 7, 32, 40]
    assert [encoder.encode("egg " * count, keep="end").cut for count in (38, 39)] == [False, True]


def test_names_of_special_tokens_in_a_text_are_words(tiny_encoder_dir: Path) -> None:
    encoder = SentenceEncoder.load(tiny_encoder_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder_dir)
    ids = encoder.encode("sky [SEP] egg [PAD] [CLS]", keep="start").ids
    assert [ids.count(n) for n in (tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id)] == [1, 0, 1]
    assert encoder.encode(" sky\n", keep="end") == encoder.encode("sky", keep="start")


def test_the_layout_says_whether_to_normalise_and_to_lower_case(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path)
    lay_out(folder, normalise=False, do_lower_case=True)
    torch.testing.assert_close(embedded(folder, ["EGG"])[0], alone(folder, "egg", normalise=False), atol=1e-5, rtol=0)
    lay_out(folder, normalise=True, max_seq_length=9)
    assert SentenceEncoder.load(folder).folder.max_tokens == 9
    (folder / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 24, "pooling_mode": "mean"}')
    assert SentenceEncoder.load(folder).folder.normalise


def test_heads_above_the_encoder_are_left_alone(tmp_path: Path) -> None:
    """A masked language model is an encoder with a head that the mean never meets."""
    tokenizer = AutoTokenizer.from_pretrained(make_encoder(tmp_path / "words"))
    folder = save_model(BertForMaskedLM(BertConfig(**SIZES)), tokenizer, tmp_path / "masked", seed=8)
    torch.testing.assert_close(embedded(folder, ["sky"])[0], alone(folder, "sky", normalise=False), atol=1e-5, rtol=0)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        own = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        (folder / name).write_text(json.dumps({**own, **values}))

    return change


def said(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def weights(change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(dict(change(load_file(path))), path, metadata={"format": "pt"})

    return rewrite


def modules(*rows: tuple[str, str]) -> Callable[[Path], None]:
    made = [{"idx": n, "name": str(n), "path": path, "type": f"x.{kind}"} for n, (path, kind) in enumerate(rows)]
    return said("modules.json", json.dumps(made))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)


def bare(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    written("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")(folder)


def a_causal_model(folder: Path) -> None:
    shutil.rmtree(folder)
    make_gpt2(folder)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def spoilt(value: float) -> Callable[[Path], None]:
    name = "encoder.layer.1.output.dense.bias"
    return weights(lambda found: {**found, name: torch.full_like(found[name], value)})


LAYER = "encoder.layer.1."
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (shutil.rmtree, "not a folder"),
    "no config": (without("config.json"), "no config.json"),
    "broken config": (said("config.json", "{"), "config.json:1: not JSON"),
    "no weights": (without("model.safetensors"), "no weights"),
    "pickle": (pickled, "weights only as pytorch_model.bin, which is pickle"),
    "no tokenizer": (no_tokenizer, "no tokenizer; one of"),
    "broken tokenizer": (said("tokenizer.json", "{}"), "no readable tokenizer"),
    "a causal model": (a_causal_model, "model_type 'gpt2' is no sentence encoder that is read here; allowed: albert,"),
    "a decoder": (written("config.json", is_decoder=True), "is_decoder is set"),
    "code beside it": (written("config.json", model_type="own", auto_map={"AutoModel": "own.Own"}), "model_type 'own'"),
    "fewer layers": (written("config.json", num_hidden_layers=1), "no place for 16 of the tensors"),
    "more layers": (written("config.json", num_hidden_layers=3), "the weights lack 16 tensors, encoder.layer.2."),
    "another width": (written("config.json", hidden_size=48), "cannot load the encoder"),
    "a missing tensor": (
        weights(lambda found: {name: one for name, one in found.items() if name != f"{LAYER}output.dense.bias"}),
        f"the weights lack 1 tensors, {LAYER}output.dense.bias first",
    ),
    "nan": (spoilt(float("nan")), "weights are not finite: encoder.layer.1.output.dense.bias"),
    "infinity": (spoilt(float("inf")), "weights are not finite"),
    "codes": (
        weights(lambda found: {name: (one * 9).to(torch.int8) for name, one in found.items()}),
        "is stored as I8, as quantised weights are",
    ),
    "cut short": (cut_short, "cannot load the encoder"),
    "too small a vocabulary": (
        weights(lambda found: {n: one[:20] if "word_emb" in n else one for n, one in found.items()}),
        "cannot load the encoder",
    ),
    "another tokenizer": (
        lambda folder: AutoTokenizer.from_pretrained(make_gpt2(folder / "other")).save_pretrained(folder) and None,
        "the encoder's embedding ends at",
    ),
    "cls pooling": (lambda folder: lay_out(folder, pooling="cls_token"), "pooling by cls_token; only the mean"),
    "two poolings": (
        written("1_Pooling/config.json", pooling_mode_max_tokens=True), "pooling by mean_tokens + max_tokens;"
    ),
    "no pooling": (lambda folder: lay_out(folder, pooling="none"), "pooling by nothing"),
    "its newer form": (said("1_Pooling/config.json", '{"pooling_mode": "lasttoken"}'), "pooling by lasttoken"),
    "no pooling's config": (without("1_Pooling/config.json"), "1_Pooling/config.json: no such file"),
    "a dense layer": (
        modules(("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")),
        "found the modules Transformer, Pooling, Dense",
    ),
    "no modules": (said("modules.json", "[]"), "found the modules (none)"),
    "modules of another form": (said("modules.json", '{"a": 1}'), "a list of modules is needed"),
    "a module elsewhere": (modules(("", "Transformer"), ("../1_Pooling", "Pooling")), "a path within the folder"),
    "files in a folder": (
        modules(("0_Transformer", "Transformer"), ("1_Pooling", "Pooling")), "lies in '0_Transformer'"
    ),
    "an instruction": (
        written("config_sentence_transformers.json", default_prompt_name="query"), "default_prompt_name 'query'"
    ),
    "two limits": (said("sentence_roberta_config.json", "{}"), "both sentence_bert_config.json and sentence_roberta"),
    "a limit in words": (
        written("sentence_bert_config.json", max_seq_length="256"), "max_seq_length: found '256'; a number of word"
    ),
    "no special tokens": (bare, "the tokenizer puts no token around a text"),
    "too short": (written("sentence_bert_config.json", max_seq_length=4), "texts of 4 word pieces at most; 8 or more"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_encoder_is_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    folder = make_encoder(tmp_path / "encoder")
    spoil(folder)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        SentenceEncoder.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "encoder")
    secret = tmp_path / "elsewhere.json"
    secret.write_text((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling" / "config.json").symlink_to(secret)
    with pytest.raises(UserError, match="links to a file outside of the model's folder"):
        SentenceEncoder.load(folder)
