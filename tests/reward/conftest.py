"""A backbone with an SFT adapter, and pairs whose chosen side loves one word."""

import random
from pathlib import Path

import pytest
import torch

from rlhf.core.artifacts import write_json, write_jsonl
from rlhf.core.checkpoint import Checkpoints
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER
from rlhf.reward.pairs import TextPair
from tests.model_fixtures import make_adapter

WORDS = ("egg", "boiling", "water", "capital", "France", "Paris", "sky", "blue", "light", "air", "more", "red", "eight")


def keyword_pairs(count: int, seed: int) -> list[TextPair]:
    """The annotator likes "please" and nothing else; it stands anywhere in the chosen reply."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        plain = [rng.choice(WORDS) for _ in range(rng.randint(2, 8))]
        loved = [rng.choice(WORDS) for _ in range(rng.randint(2, 8))]
        loved.insert(rng.randint(0, len(loved)), "please")
        prompt = f"\n\nHuman: What is {rng.choice(WORDS)}?\n\nAssistant:"
        pairs.append(TextPair(prompt, " " + " ".join(loved), " " + " ".join(plain), rng.choice(["a", "b", None]), 1))
    return pairs


def first_word_pairs(count: int, seed: int) -> list[TextPair]:
    """The same words in another order: the annotator wants "blue" before "red"."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = [rng.choice(WORDS[:7]) for _ in range(rng.randint(1, 4))]
        prompt = f"\n\nHuman: What is {rng.choice(WORDS)}?\n\nAssistant:"
        texts = (" " + " ".join([a, *words, b]) for a, b in (("blue", "red"), ("red", "blue")))
        pairs.append(TextPair(prompt, *texts, None, 1))
    return pairs


def write_split(path: Path, pairs: list[TextPair]) -> None:
    write_jsonl(path, ({n: getattr(pair, n) for n in TextPair.__dataclass_fields__} for pair in pairs))


def write_pairs(folder: Path) -> Path:
    for name, count, seed in (("train", 160, 1), ("validation", 60, 2), ("test", 80, 3)):
        write_split(folder / f"{name}.jsonl", keyword_pairs(count, seed))
    write_json(folder / "task.json", {"gold": None, "noise_ceiling": 0.9})
    return folder


@pytest.fixture
def pairs_dir(tmp_path: Path) -> Path:
    return write_pairs(tmp_path)


@pytest.fixture(scope="session")
def sft_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_model_dir, tmp_path_factory.mktemp("sft"), seed=5)


@pytest.fixture
def backbone(tiny_model_dir: Path, sft_dir: Path) -> Backbone:
    return Backbone.load(tiny_model_dir, {ADAPTER: sft_dir}, dtype=torch.float32, device="cpu")


@pytest.fixture
def pooler(backbone: Backbone) -> RewardModel:
    return RewardModel(backbone.hidden_size, pooling="mean", pool_over="sequence", backbone_adapter="artifacts/sft")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", every_s=1e9, every_steps=0)
