"""The reward stage by one, two and four processes gives the same bytes, head alone or with the backbone."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.artifacts import write_json, write_metrics
from rlhf.core.processes import Processes, current
from rlhf.models.reward.referee import save_referee
from rlhf.models.reward.scoring import save_reward
from rlhf.reward import features
from tests.processes import ended, start, together
from tests.reward.conftest import keyword_pairs, write_split
from tests.reward.test_train import HEAD, LORA, TUNE, WIDE, train

Outputs = dict[str, bytes]
SMALL = {"batch_tokens": 200, "epochs": 3, "normalise_prompts": 12, "sample_batch": 5, "referee_share": 0.3}
FROZEN = {**HEAD, **SMALL}
ENCODER = {**FROZEN, "encoder": True}
TUNED = {**LORA, **SMALL, "tune": {**TUNE, "epochs": 1, "shards": 4, "dropout": 0.1, "batch_size": 8}}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name, count, seed in (("train", 40, 1), ("validation", 15, 2), ("test", 15, 3)):
        write_split(folder / f"{name}.jsonl", keyword_pairs(count, seed))
    write_json(folder / "task.json", {"gold": None, "noise_ceiling": 0.9})
    return folder


class Stage:
    """The stage on the same pairs and model, in a folder of its own each time."""

    def __init__(self, pairs: Path, base: Path, sft: Path, encoder: Path) -> None:
        self.pairs, self.base, self.sft, self.encoder = pairs, base, sft, encoder

    def work(self, how: dict[str, Any], every: int = 0) -> None:
        """In the folder where this process is: paths are in what is written."""
        out, encoder = Path("out"), self.encoder if how.get("encoder") else None
        own = {name: value for name, value in how.items() if name != "encoder"}
        trained = train(self.pairs, self.base, self.sft, out, every_steps=every, encoder=encoder, **own)
        save_reward(trained.model, out / "reward", base=self.base, sft=self.sft, tuned=trained.tuned)
        save_referee(trained.referee, out / "referee", base=self.base, sft=self.sft)
        write_metrics(out / "metrics.json", trained.metrics)
        write_json(out / "learned.json", [trained.learned, trained.test_margins])

    def run(self, root: Path, size: int, how: dict[str, Any], every: int = 0, attempt: str = "meeting") -> Outputs:
        root.mkdir(exist_ok=True)

        def work(here: Processes) -> None:
            os.chdir(root)
            self.work(how, every)

        together(size, root / attempt, work)
        found = {path.relative_to(root).as_posix(): path for path in sorted((root / "out").rglob("*"))}
        return {name: path.read_bytes() for name, path in found.items() if path.is_file() and "checkpoint" not in name}


@pytest.fixture(scope="module")
def stage(pairs: Path, tiny_model_dir: Path, sft_dir: Path, tiny_encoder_dir: Path) -> Stage:
    return Stage(pairs, tiny_model_dir, sft_dir, tiny_encoder_dir)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        (FROZEN, 2),
        (ENCODER, 2),
        pytest.param(TUNED, 2, marks=pytest.mark.thorough),
        *(pytest.param(how, 4, marks=pytest.mark.thorough) for how in (FROZEN, ENCODER, TUNED, {**WIDE, **SMALL})),
    ],
)
def test_any_number_of_processes_writes_the_same_bytes(
    tmp_path: Path, stage: Stage, how: dict[str, Any], size: int
) -> None:
    alone, several = (stage.run(tmp_path / str(count), count, how) for count in (1, size))
    assert len(alone) >= 8
    assert several == alone


@pytest.mark.thorough
def test_batches_that_depend_on_the_processes_would_show(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: each process cuts its own rows into batches, as a loader with a batch size per process does."""
    alone, real = stage.run(tmp_path / "alone", 1, FROZEN), features.length_batches

    def planted(lengths: Sequence[int], tokens: int) -> list[list[int]]:
        return real(lengths, tokens // current().size)

    monkeypatch.setattr(features, "length_batches", planted)
    assert stage.run(tmp_path / "planted", 2, FROZEN) != alone


@pytest.mark.thorough
def test_other_shards_change_rounding_alone(tmp_path: Path, stage: Stage) -> None:
    """Other bytes, so that the test above shows something; the same losses, so that shards are the same training."""
    found = {}
    for shards in (1, 4):
        how = {**TUNED, "tune": {**TUNED["tune"], "shards": shards, "dropout": 0.0}}
        found[shards] = stage.run(tmp_path / str(shards), 1, how)
    name = "out/reward/adapter/adapter_model.safetensors"
    assert found[1][name] != found[4][name]
    one, four = ([float(cell.strip('"') or 0) for row in found[n]["out/reward.csv"].decode().splitlines()[1:]
                  for cell in row.split(",") if cell != '""'] for n in (1, 4))  # fmt: skip
    assert one == pytest.approx(four, rel=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 4])
def test_killed_among_the_features_at_two_and_resumed_at_one_and_four(tmp_path: Path, stage: Stage, size: int) -> None:
    alone = stage.run(tmp_path / "alone", 1, FROZEN)
    root = tmp_path / "run"
    root.mkdir()

    def until_the_fifth(here: Processes) -> None:
        os.chdir(root)
        real, done = features.pooled, []

        def pooled(*args: Any, **kwargs: Any) -> Any:
            done.append(1)
            if here.rank == 1 and len(done) == 5:
                os._exit(9)
            return real(*args, **kwargs)

        features.pooled = pooled
        stage.work(FROZEN, every=4)

    assert ended(start(2, root / "first", until_the_fifth)) == [75, 9]
    assert len(list(root.glob("out/checkpoints/features/*.safetensors"))) >= 2
    assert stage.run(root, size, FROZEN, every=4, attempt="second") == alone
