"""Every token that the tokenizer, the config or the generation config names as an end ends a reply, everywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.chat.streaming import ReplyStream
from rlhf.export.causal import generation_config
from rlhf.models.fast.engine import Engine, load_backbone
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.text.tokens import pad_left
from tests.model_fixtures import TEXTS

PROMPT = TEXTS[0].split("Assistant:")[0] + "Assistant:"


def named(source: Path, folder: Path, *, config: object, generation: object) -> Path:
    """The model with other end tokens in its two configs."""
    shutil.copytree(source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": config}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    return folder


def first_tokens(folder: Path) -> list[int]:
    """What greedy decoding says first where nothing ends it."""
    backbone = Backbone.load(folder, {}, dtype=torch.float32, device="cpu")
    backbone.end_ids = (-1,)
    made = backbone.generate(*ids(backbone), Sampling(12, 1.0), adapter=None, uniforms=None)
    said: list[int] = made.response_ids[0].tolist()
    return said


def ids(backbone: Backbone) -> tuple[Any, Any]:
    return pad_left([backbone.tokenizer(PROMPT)["input_ids"]], backbone.pad_id, "cpu")


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("place", ["config", "generation"])
def test_replies_end_at_each_of_them(engine: Engine, place: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    said = first_tokens(tiny_model_dir)
    end = next(token for token in said if said.index(token) >= 1)
    others: dict[str, object] = {"config": 0, "generation": 0} | {place: [0, end, 10**6]}
    folder = named(tiny_model_dir, tmp_path / "model", **others)
    backbone = load_backbone(folder, {}, engine=engine, dtype=torch.float32, device="cpu")
    assert backbone.end_ids == (0, end)  # the tokenizer's, and what the model can say of the list
    length = said.index(end) + 1
    made = backbone.generate(*ids(backbone), Sampling(12, 1.0), adapter=None, uniforms=None)
    assert made.response_ids[0].tolist() == said[:length]
    assert bool(made.ended)
    (sample,) = sample_texts(backbone, [PROMPT], Sampling(12, 1.0), adapter=None, stream=None, batch_size=1)
    assert (sample.ended, list(sample.response_ids)) == (True, said[:length])
    assert sample.response == backbone.tokenizer.decode(said[: length - 1])  # an end is no text, special or not
    stops = generation_config(backbone.model, backbone.tokenizer).eos_token_id
    assert stops == [0, end]


def test_a_chat_stops_and_says_so(tiny_model_dir: Path, tmp_path: Path) -> None:
    usual = Backbone.load(tiny_model_dir, {}, dtype=torch.float32, device="cpu")
    usual.end_ids = (-1,)
    whole = ReplyStream(usual, PROMPT, None, Sampling(12, 1.0), (0, "chat", 0))
    list(whole)
    end = next(token for token in whole.ids if whole.ids.index(token) >= 1)
    folder = named(tiny_model_dir, tmp_path / "model", config=[0, end], generation=None)
    backbone = Backbone.load(folder, {}, dtype=torch.float32, device="cpu")
    stream = ReplyStream(backbone, PROMPT, None, Sampling(12, 1.0), (0, "chat", 0))
    shown = "".join(stream)
    assert stream.sample.ended
    assert stream.ids == whole.ids[: whole.ids.index(end) + 1]
    assert shown == stream.sample.response == backbone.tokenizer.decode(stream.ids[:-1])
