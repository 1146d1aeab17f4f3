"""Exports say what the run's models say, in a process that has never heard of this project."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rlhf.export.causal import export_adapter, export_merged
from rlhf.export.parts import export_parts
from rlhf.export.reward import export_classifier
from rlhf.models.reward.ensemble import Ensemble
from tests.export.worlds import TEXTS, World, in_a_fresh_process

MEAN_OF_THREE = Ensemble(3, "mean", 0.5)
NAMES = ("adapter", "merged", "base", "last", "tuned", "heads", "mean", "worst", "attention")
LATER = ("base", "heads", "mean", "worst")  # of Llama: by the code that GPT-2 proves, on a model that the others prove


@dataclass
class Asked:
    """Exports to be loaded elsewhere, and what each must say."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    expected: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, name: str, expected: list[Any], **job: Any) -> None:
        self.jobs.append({"name": name, **job})
        self.expected[name] = expected


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, tiny_llama_dir: Path) -> dict[str, World]:
    root = tmp_path_factory.mktemp("runs")
    return {"gpt2": World.make(root / "gpt2", tiny_model_dir), "llama": World.make(root / "llama", tiny_llama_dir)}


@pytest.fixture(scope="module")
def asked(worlds: dict[str, World], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Exports of both shapes; one fresh process answers for all of them."""
    now = {"gpt2": NAMES, "llama": tuple(name for name in NAMES if name not in LATER)}
    return answered(worlds, now, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def asked_later(worlds: dict[str, World], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The other exports."""
    return answered(worlds, {"llama": LATER}, tmp_path_factory.mktemp("later"))


def answered(worlds: dict[str, World], names: dict[str, tuple[str, ...]], to: Path) -> Asked:
    asked = Asked()
    for shape, wanted in names.items():
        _policies(asked, shape, worlds[shape], to / shape, wanted)
        _rewards(asked, shape, worlds[shape], to / shape, wanted)
    found = in_a_fresh_process(asked.jobs, to / "elsewhere")
    for job, numbers in zip(asked.jobs, found, strict=True):
        job["found"] = numbers
    return asked


def whole(world: World) -> list[list[int]]:
    return [[*prompt, *reply] for prompt, reply in (world.ids(*text) for text in TEXTS)]


@torch.no_grad()
def _policies(asked: Asked, shape: str, world: World, to: Path, wanted: tuple[str, ...]) -> None:
    at, ids = world.layout, whole(world)
    for kind, export in (("adapter", export_adapter), ("merged", export_merged)):
        if kind in wanted:
            model = world.adapted(at.ppo)
            logits = [model(torch.tensor([row])).logits[0].tolist() for row in ids]
            export("ppo", at.ppo, at.base, to / kind)
            asked.add(f"{shape} {kind}", logits, kind=kind, folder=str(to / kind), base=str(at.base), ids=ids)
    if "base" in wanted:
        bare = AutoModelForCausalLM.from_pretrained(at.base).eval()
        export_merged("base", None, at.base, to / "base")
        logits = [bare(torch.tensor([row])).logits[0].tolist() for row in ids]
        asked.add(f"{shape} base", logits, kind="merged", folder=str(to / "base"), ids=ids)


def _rewards(asked: Asked, shape: str, world: World, to: Path, wanted: tuple[str, ...]) -> None:
    at = world.layout
    plain = {
        "last": {"pooling": "last", "pool_over": "response"},
        "tuned": {"pooling": "last", "pool_over": "sequence", "tuned": True},
        "heads": {"pooling": "last", "pool_over": "response", "ensemble": MEAN_OF_THREE},
    }
    parts = {
        "mean": {"pooling": "mean", "pool_over": "response"},
        "worst": {"pooling": "mean", "pool_over": "sequence", "ensemble": Ensemble(3, "worst", 0.5)},
        "attention": {"pooling": "attention", "pool_over": "response", "tuned": True},
    }
    for name, how in [one for one in (plain | parts).items() if one[0] in wanted]:
        scores = world.scores(world.fit(**how), at.ppo if how.get("tuned") else at.sft)
        kind, export = ("reward", export_classifier) if name in plain else ("parts", export_parts)
        export(at.base, at.sft, at.reward, to / name)
        # The small Llama's tokenizer merges across the seam of prompt and reply; its classifiers are given ids.
        ids = None if shape == "gpt2" else whole(world)
        asked.add(f"{shape} {name}", scores, kind=kind, folder=str(to / name), texts=TEXTS, ids=ids)


@pytest.mark.parametrize(
    ("shape", "name"), [("gpt2", name) for name in NAMES] + [("llama", name) for name in NAMES if name not in LATER]
)
def test_a_fresh_process_hears_the_same(shape: str, name: str, asked: Asked) -> None:
    hears_the_same(shape, name, asked)


@pytest.mark.thorough
@pytest.mark.parametrize("name", LATER)
def test_a_fresh_process_hears_llamas_other_exports(name: str, asked_later: Asked) -> None:
    hears_the_same("llama", name, asked_later)


def hears_the_same(shape: str, name: str, asked: Asked) -> None:
    (job,) = [job for job in asked.jobs if job["name"] == f"{shape} {name}"]
    for found, expected in zip(job["found"], asked.expected[job["name"]], strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-4, rtol=0)
    assert len(job["found"]) == len(TEXTS)


def test_llama_says_that_a_layer_was_added(asked: Asked) -> None:
    folders = {job["name"]: Path(job["folder"]) for job in asked.jobs}
    own = json.loads((folders["llama merged"] / "config.json").read_text())["num_hidden_layers"]
    assert json.loads((folders["llama last"] / "config.json").read_text())["num_hidden_layers"] == own + 1
    assert "the last layer is not the model's own" in (folders["llama last"] / "README.md").read_text()
    assert "the last layer is not" not in (folders["gpt2 last"] / "README.md").read_text()
    assert not [
        name for name in ("gpt2", "llama") if "reward_offset" in (folders[f"{name} last"] / "README.md").read_text()
    ]


def test_eos_never_pads_a_classifier(asked: Asked) -> None:
    """Where EOS pads, transformers' classifiers would skip the EOS that ends a response."""
    for job in asked.jobs:
        if job["kind"] == "reward":
            tokenizer = AutoTokenizer.from_pretrained(job["folder"])
            assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.unk_token_id, None)


def test_merged_models_know_where_to_stop(asked: Asked) -> None:
    for job in asked.jobs:
        if job["kind"] == "merged":
            tokenizer = AutoTokenizer.from_pretrained(job["folder"])
            config = GenerationConfig.from_pretrained(job["folder"])
            assert config.eos_token_id == tokenizer.eos_token_id
            assert config.pad_token_id is not None


def test_adapters_keep_their_bytes(asked: Asked, worlds: dict[str, World]) -> None:
    for shape, world in worlds.items():
        (job,) = [job for job in asked.jobs if job["name"] == f"{shape} adapter"]
        for file in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
            assert (Path(job["folder"]) / file).read_bytes() == (world.layout.ppo / file).read_bytes()
