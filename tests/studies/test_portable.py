"""The chain on several processors: equal files are said to be equal, and the first tensor that differs is named."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch

from rlhf.core.artifacts import read_json, save_tensors, write_text
from rlhf.core.errors import UserError
from studies import portable
from studies.run import Run

EMULATED = "Haswell-v4"


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[Run], None]], int]:
    """Give a function that runs the command with pretended stages, whose outputs `edit` changes; it gives a status."""
    work = tmp_path / "work"
    words = ["portable", "--processors", "native", EMULATED, "--work", str(work), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(portable.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(portable, "unsupported", lambda: None)

    def run(edit: Callable[[Run], None]) -> int:
        def make(runs: Iterable[Run], processes: int) -> Iterator[Run]:
            for one in runs:
                for stage in one.stages:
                    for out in one.outs(stage):
                        write_text(one.folder / (out if out.suffix else out / "file"), stage)
                save_tensors(one.folder / "artifacts/base/model.safetensors", {n: torch.ones(2) for n in "ab"})
                edit(one)
                yield one

        monkeypatch.setattr(portable, "make", make)
        with pytest.raises(SystemExit) as ended:
            portable.main()
        return int(str(ended.value.code))

    return run


def test_equal_files_are_the_same_bytes(
    chain: Callable[[Callable[[Run], None]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain(lambda run: write_text(run.folder / "provenance/base.json", run.folder.name)) == 0
    assert "the same bytes on 2 processors" in capsys.readouterr().out
    record = read_json(tmp_path / "portable.json")
    assert record["different"] == []
    assert record["files"]["native"] == record["files"][EMULATED]
    assert "artifacts/base/model.safetensors" in record["files"]["native"]["base"]
    assert not any(name.startswith("provenance") for own in record["files"]["native"].values() for name in own)
    row = next(line for line in (tmp_path / "portable.md").read_text().splitlines() if line.startswith("| base"))
    first, second = row.split(" | ")[2:]
    assert first == second.rstrip(" |")


def test_the_first_tensor_that_differs_is_named(
    chain: Callable[[Callable[[Run], None]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(run: Run) -> None:
        if run.folder.name == EMULATED:
            changed = {"a": torch.ones(2), "b": torch.tensor([1.0, 1.5])}
            save_tensors(run.folder / "artifacts/base/model.safetensors", changed)
            write_text(run.folder / "metrics/evaluate.json", "9")  # later in the chain: not the first

    assert chain(edit) == 1
    said = capsys.readouterr().out
    assert f"{EMULATED}: differs first at stage base, artifacts/base/model.safetensors, tensor b: 0.5 apart" in said
    assert "evaluate.json" not in said


@pytest.mark.parametrize(
    ("first", "second", "where"), [("a\nb\n", "a\nc\n", 'line 2: "b" and "c"'), ("a\n", "a\nb\n", "the end and")]
)
def test_the_first_line_that_differs_is_named(first: str, second: str, where: str, tmp_path: Path) -> None:
    for name, text in (("first.csv", first), ("second.csv", second)):
        write_text(tmp_path / name, text)
    assert where in portable.first_difference(tmp_path / "first.csv", tmp_path / "second.csv")


def test_a_processor_is_emulated_and_without_the_emulator_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable.shutil, "which", lambda name: f"/opt/{name}")
    assert portable.plan(tmp_path, EMULATED).under == ("/opt/qemu-x86_64", "-cpu", EMULATED)
    assert portable.plan(tmp_path, "native").under == ()
    monkeypatch.setattr(portable.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"qemu-user.*allowed without it: native"):
        portable.plan(tmp_path, EMULATED)
