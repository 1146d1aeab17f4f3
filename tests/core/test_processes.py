"""What processes tell each other, and how the launcher ends them all and says why."""

import inspect
import math
import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.core import artifacts, launcher, processes
from rlhf.core.errors import UserError
from rlhf.core.launcher import Shared, launch, shared, verdict
from rlhf.core.processes import ALONE, Processes
from tests.processes import ended, start, together

RAGGED = [0.1, 1e8, -1e8, 3.3, 1e-8, 7.7, -0.3, 2.5]  # whose float32 sum depends on the order


def by_hand() -> list[float]:
    """The balanced tree over RAGGED, level by level, written out."""
    a, b, c, d, e, f, g, h = (torch.tensor(number) for number in RAGGED)
    return [float(((a + b) + (c + d)) + ((e + f) + (g + h)))]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_sums_are_one_tree_for_any_number_of_processes(tmp_path: Path, size: int) -> None:
    assert by_hand() != [float(torch.tensor(RAGGED).cumsum(0)[-1])] != [float(sum(map(Fraction, RAGGED)))]

    def work(here: Processes) -> None:
        asked: list[int] = []

        def part(shard: int) -> torch.Tensor:
            asked.append(shard)
            return torch.tensor([RAGGED[shard]])

        assert here.tree_sum(8, part).tolist() == by_hand()
        assert asked == list(range(here.rank * 8 // size, (here.rank + 1) * 8 // size))
        assert here.traffic.bytes == 4 * round(math.log2(size))

    together(size, tmp_path / "meeting", work)


def test_processes_share_units_and_agree(tmp_path: Path) -> None:
    def work(here: Processes) -> None:
        done: list[int] = []

        def square(unit: int) -> dict[str, float | str]:
            done.append(unit)
            return {"root": math.sqrt(unit), "text": "ä" * unit, "none": math.inf}

        found = here.map([3, 1, 4, 1, 5], square)
        assert found == [{"root": math.sqrt(u), "text": "ä" * u, "none": math.inf} for u in (3, 1, 4, 1, 5)]
        assert done == ([3, 4, 5] if here.is_main else [1, 1])
        assert here.map([2], square) == [{"root": math.sqrt(2), "text": "ää", "none": math.inf}]
        assert here.map([], square) == []
        assert here.tell(lambda: "" if here.is_main else "never") == ""
        assert here.tell(lambda: f"from {here.rank}: ü") == "from 0: ü"
        assert here.numbers(here.rank, 0.1) == [[0.0, 0.1], [1.0, 0.1]]

    together(2, tmp_path / "meeting", work)


def test_processes_whose_weights_differ_save_nothing(tmp_path: Path) -> None:
    def work(here: Processes) -> None:
        here.check_same({"a": torch.ones(2, 3), "b": torch.ones((), dtype=torch.bfloat16)})
        with pytest.raises(UserError, match="process 1 of 2 holds other weights than process 0"):
            here.check_same({"a": torch.ones(3) + here.rank * 2e-7})

    together(2, tmp_path / "meeting", work)


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    def work(here: Processes) -> None:
        artifacts.write_text(tmp_path / f"file-{here.rank}", "x")
        with artifacts.atomic_dir(tmp_path / f"folder-{here.rank}") as folder:
            (folder / "x").write_text("x")
        here.wait()

    together(2, tmp_path / "meetings" / "meeting", work)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file-0", "folder-0", "meetings"]


def test_one_that_is_killed_is_noticed_by_those_that_wait(tmp_path: Path) -> None:
    def work(here: Processes) -> None:
        if here.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        here.tree_sum(4, lambda shard: torch.ones(1000))

    began = time.monotonic()
    assert ended(start(4, tmp_path / "meeting", work)) == [75, -signal.SIGKILL, 75, 75]
    assert time.monotonic() - began < 120  # it waits for the time-out (120 s) where nothing is noticed


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("pass", 0, []),
        (
            "import os, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\ntime.sleep(600)",
            1,
            ["error: ppo: process 1 of 2 was ended by SIGKILL, as a system without memory does; the others were ended "
             "with it, and the same command resumes from the last checkpoint"],
        ),
        (  # one fails while the other one is at work
            "import os, sys, time\nfrom pathlib import Path\nif os.environ['RANK'] == '0': time.sleep(600)\n"
            "(Path(os.environ['RLHF_PROCESSES']) / 'failed-1.json').write_text('[\"error: no space\"]')\nsys.exit(1)",
            1,
            ["error: no space (process 1 of 2)"],
        ),
        ("import sys\nsys.exit(130)", 130, ["ppo: stopped; the same command resumes from the last checkpoint"]),
    ],
    ids=["well", "killed", "failed", "stopped"],
)  # fmt: skip
def test_the_launcher_ends_all_and_says_why_in_one_line(
    code: str, status: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch notes of each of its steps who asked for it, and looks for that one's source among all tests' modules.
    monkeypatch.setattr(inspect, "stack", lambda: inspect.getouterframes(sys._getframe(1), context=0))
    lines: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    assert launch(["-S", "-c", code], 2, stage="ppo", say=lines.append) == status
    assert lines == told
    assert signal.getsignal(signal.SIGTERM) == before
    assert launcher.FOLDER not in os.environ


def test_what_all_say_is_said_once_and_is_nobodys() -> None:
    lines: list[str] = []
    same = {0: ["error: ppo: the loss became nan"], 1: ["error: ppo: the loss became nan"]}
    assert verdict("ppo", 2, {0: 1, 1: 1}, same, lines.append) == 1
    assert lines == ["error: ppo: the loss became nan"]


@pytest.mark.parametrize(
    ("codes", "status", "part"),
    [
        ({1: 75, 0: -9}, 1, "process 0 of 2 was ended by SIGKILL"),  # the one that was lost is no reason
        ({0: -15, 1: -11}, 1, "process 1 of 2 was ended by SIGSEGV"),
        ({0: -15}, 1, "process 0 of 2 was ended by SIGTERM"),
        ({1: 75, 0: -15}, 1, "process 1 of 2 was not answered"),
        ({1: 130, 0: -15}, 130, "stopped"),
        ({1: 3}, 1, "process 1 of 2 ended with status 3"),
    ],
)
def test_the_reason_is_the_one_that_ended_first(codes: dict[int, int], status: int, part: str) -> None:
    lines: list[str] = []
    assert verdict("ppo", 2, codes, {}, lines.append) == status
    assert len(lines) == 1
    assert part in lines[0]


RESOLVED = {
    "launch": {"processes": 2, "timeout_s": 60.0}, "base": {"source": "pretrain", "pretrain": {"shards": 4}},
    "ppo": {"shards": 1}, "sft": {"shards": 2}, "evaluate": {"judge": {"prompts": 0}},
    "reward": {"train": "head", "tune": {"shards": 1}},
    "offline": {"shared": {"shards": 4}, "dpo": {"run": True}, "rrhf": {"run": False}, "best_of_n": {"run": False}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("cores", "stage", "changes", "count"),
    [
        (1, "ppo", {}, 1),
        (2, "ppo", {}, 2),
        (3, "ppo", {}, 2),  # three do not divide four shards
        (64, "ppo", {}, 4),
        (8, "ppo", {"runtime": {"device": "cpu", "threads": 4}}, 2),
        (8, "ppo", {"runtime": {"device": "auto", "threads": 1}}, 1),  # it may be a GPU, and there is one of it
        (8, "ppo", {"ppo": {"shards": 4, "sampler": "vllm"}}, 1),
        (8, "sft", {"ppo": {"shards": 4, "sampler": "vllm"}}, 2),
        (8, "evaluate", {}, 4),  # its batches can go to any number: to as many as PPO's shards
        (8, "base", {"base": {"source": "hub", "pretrain": {"shards": 4}}}, 1),
        (8, "prepare", {}, 1),
    ],
)
def test_auto_takes_the_cores_that_the_shards_can_use(
    monkeypatch: pytest.MonkeyPatch, cores: int, stage: str, changes: dict[str, Any], count: int
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: cores)
    for name in processes.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    auto = {"launch": {"processes": "auto", "timeout_s": 60.0}, "runtime": {"device": "cpu", "threads": 1}}
    resolved = RESOLVED | {"ppo": {"shards": 4, "sampler": "native"}} | auto | changes
    assert (shared(stage, resolved).launches or 1) == count


@pytest.mark.parametrize(
    ("text", "most"), [("max 100000", 9), ("200000 100000", 2), ("50000 100000", 1), ("nonsense", 9), (None, 9)]
)
def test_cores_are_those_that_a_container_was_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, most: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)), raising=False)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text + "\n")
    assert processes.cores(tmp_path / "cpu.max") == most


def test_who_shares_what(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processes.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    assert shared("base", RESOLVED) == Shared(None, 2, 60.0)
    assert shared("base", RESOLVED | {"base": {"source": "hub", "pretrain": {"shards": 4}}}).launches == 0
    assert shared("evaluate", RESOLVED).launches == 2
    assert shared("evaluate", RESOLVED | {"evaluate": {"judge": {"prompts": 9}}}).launches == 0
    assert shared("reward", RESOLVED).launches == 2  # batches of features, whatever `tune` says
    assert shared("offline@dpo", RESOLVED).launches == 2
    assert shared("compare", RESOLVED).launches == 2
    switched_off = {name: {"run": False} for name in ("dpo", "rrhf", "best_of_n")}
    off = RESOLVED | {"offline": {"shared": {"shards": 1}, **switched_off}}
    for stage in ("offline@dpo", "offline@rrhf", "offline@best_of_n", "compare", "prepare"):
        assert shared(stage, off).launches == 0  # a note is written: nothing to share, and nothing to divide
    assert shared("sft", {"sft": {"shards": 2}}).launches == 0  # resolved by hand, without a section `launch`
    with pytest.raises(UserError, match=r"launch.processes: found 2; it must divide ppo.shards \(1\): allowed are 1$"):
        shared("ppo", RESOLVED)
    tuned = {"reward": {"train": "lora", "tune": {"shards": 1}}}
    with pytest.raises(UserError, match=r"found 2; it must divide reward.tune.shards \(1\): allowed are 1$"):
        shared("reward", RESOLVED | tuned)
    with pytest.raises(UserError, match=r"found 2; it must divide offline.shared.shards \(1\): allowed are 1$"):
        shared("offline@dpo", off | {"offline": {"shared": {"shards": 1}, "dpo": {"run": True}}})
    with pytest.raises(UserError, match=r"ppo.sampler: found 'vllm', which one process asks, and launch.processes 2"):
        shared("ppo", RESOLVED | {"ppo": {"shards": 2, "sampler": "vllm"}})
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert shared("sft", RESOLVED).launches == 2  # half of a launcher's variables are nobody's launcher
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert shared("base", RESOLVED) == Shared((1, 4), 0, 60.0)
    assert not shared("base", RESOLVED).checks
    with pytest.raises(UserError, match="prepare: started as 4 processes; it runs in one"):
        shared("prepare", RESOLVED)
    with pytest.raises(UserError, match=r"found 4; it must divide sft.shards \(2\): allowed are 1, 2$"):
        shared("sft", RESOLVED)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(UserError, match="RANK='4'"):
        shared("base", RESOLVED)


def test_libraries_see_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate makes a process one of several where any of these says so."""
    for name in ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "1" if name == "WORLD_SIZE" else "2")
    assert launcher.meet(shared("base", {})) is ALONE
    from accelerate.utils import get_int_from_env

    sizes = ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "WORLD_SIZE"]
    assert get_int_from_env(sizes, 1) == 1
    assert "LOCAL_RANK" not in os.environ


def test_alone_nothing_is_sent() -> None:
    assert ALONE.tree_sum(1, lambda shard: torch.ones(2)).tolist() == [1, 1]
    assert ALONE.numbers(1, 2) == [[1, 2]]
    assert ALONE.traffic.messages == 0
