"""A frozen base cut over two processes by FSDP2 gives the logprobs and the adapter's gradients of the whole one."""

from pathlib import Path

import pytest
from torch.distributed.tensor import DTensor

from benchmarks.sharded_base import ARCHITECTURES, compare, make_model, shard
from rlhf.core.processes import Processes
from tests.processes import together


@pytest.mark.thorough
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_processes_hold_half_each_and_agree_with_the_whole(architecture: str, tmp_path: Path) -> None:
    def work(here: Processes) -> None:
        model = make_model(architecture, 2, 64)
        found = compare(model, here)
        assert found["logprobs_apart"] < 1e-5 < found["logprobs_spread"]
        assert found["gradients_apart"] < 1e-5
        adapters = sum(w.numel() * w.element_size() for w in model.parameters() if w.requires_grad)
        assert found["held"] < adapters + 0.51 * (found["whole"] - adapters) + 4096
        shard(model)
        kinds = {name: isinstance(weight, DTensor) for name, weight in model.named_parameters()}
        assert kinds == {
            name: "lora_" not in name for name in kinds
        }  # the adapter is whole in each process, the rest cut

    together(2, tmp_path / "meeting", work)
