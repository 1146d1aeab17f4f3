"""The alternatives by one, two and four processes give the same bytes; shards are the same training."""

import os
from collections.abc import Callable

import pytest
import torch

from rlhf.core.layout import Layout
from rlhf.core.processes import Processes
from rlhf.offline.preference import collate_pairs, part_of_pairs
from tests.offline.helpers import run
from tests.processes import ended, start, together

Make = Callable[..., Layout]
METHODS = ("dpo", "ipo", "rrhf", "rejection")
OUTPUTS = ("adapter_model.safetensors", "curve.csv", "policy.json")


def outputs(at: Layout, method: str) -> dict[str, bytes]:
    found = {name: (at.offline(method) / name).read_bytes() for name in OUTPUTS}
    return found | {"metrics": at.metrics(f"offline_{method}").read_bytes()}


def shared_run(at: Layout, method: str, size: int, shards: int = 4) -> dict[str, bytes]:
    together(size, at.root / "meeting", lambda here: run_once(at, method, shards))
    return outputs(at, method)


def run_once(at: Layout, method: str, shards: int) -> None:
    run(at, method, shared={"shards": shards, "sample_batch": 3, "batch_tokens": 60, "eval_every": 3}, epochs=1)


@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("rrhf", 2),
        pytest.param("dpo", 2, marks=pytest.mark.thorough),
        *(pytest.param(method, 4, marks=pytest.mark.thorough) for method in METHODS),
    ],
)
def test_any_number_of_processes_writes_the_same_bytes(project: Make, method: str, size: int) -> None:
    alone, several = (shared_run(project(str(count)), method, count) for count in (1, size))
    assert several == alone


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_other_shards_change_rounding_alone(project: Make, method: str) -> None:
    whole, cut = (shared_run(project(f"shards-{shards}"), method, 1, shards) for shards in (1, 4))
    assert whole["adapter_model.safetensors"] != cut["adapter_model.safetensors"]
    assert numbers(whole["curve.csv"]) == pytest.approx(numbers(cut["curve.csv"]), rel=2e-3)


def numbers(curve: bytes) -> list[float]:
    cells = [cell.strip('"') for row in curve.decode().splitlines()[1:] for cell in row.split(",")]
    return [float(cell) for cell in cells if cell]


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, 4])
def test_killed_at_two_and_resumed_at_one_and_four(project: Make, size: int) -> None:
    def go(at: Layout) -> None:
        run(at, "dpo", shared={"shards": 4, "eval_every": 2}, epochs=2)

    def until_the_third(here: Processes) -> None:
        from rlhf.training import trainer_checkpoints as module

        real = module.Keeper.on_step_end

        def planted(self: module.Keeper, args: object, state: object, control: object, **kwargs: object) -> None:
            real(self, args, state, control, **kwargs)  # type: ignore[arg-type] # as they came
            if state.global_step == 3 and here.rank == 1:  # type: ignore[attr-defined] # as above
                os._exit(9)

        module.Keeper.on_step_end = planted  # type: ignore[method-assign, assignment] # in a child that ends
        go(at)

    alone, at = project("alone"), project("killed")
    together(1, alone.root / "meeting", lambda here: go(alone))
    assert ended(start(2, at.root / "first", until_the_third)) == [75, 9]
    assert list(at.root.glob("checkpoints/dpo/checkpoint-*"))
    together(size, at.root / "second", lambda here: go(at))
    assert outputs(at, "dpo") == outputs(alone, "dpo")


def test_a_shard_of_pairs_holds_both_sides_of_them() -> None:
    """trl's batch has all chosen replies first: rows in their order would put a pair's sides into different shards."""
    rows = [
        {"prompt_ids": [pair], "chosen_ids": [10 + pair], "rejected_ids": [20 + pair],
         "weight": 1.0 + pair, "margin": 0.5, "target": 0.75}
        for pair in range(1, 5)
    ]  # fmt: skip
    batch = collate_pairs(rows, pad_id=0)
    parts = [part_of_pairs(batch, shard, 2) for shard in range(2)]
    assert [part["input_ids"].tolist() for part in parts] == [
        [[1, 11], [2, 12], [1, 21], [2, 22]],
        [[3, 13], [4, 14], [3, 23], [4, 24]],
    ]
    assert [part["weights"].tolist() for part in parts] == [[2.0, 3.0], [4.0, 5.0]]
    assert all(part["targets"].shape == (2,) and part["completion_mask"].shape == (4, 2) for part in parts)
    one = part_of_pairs(collate_pairs(rows[:1], pad_id=0), 0, 1)
    assert torch.equal(one["input_ids"], torch.tensor([[1, 11], [1, 21]]))
