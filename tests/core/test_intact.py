"""What a stage reads is what its maker wrote, or one line names the file and the stage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.artifacts import write_json, write_text
from rlhf.core.errors import UserError
from rlhf.core.intact import check_read, read_records
from rlhf.core.provenance import record_again, write_provenance

ADAPTER = "artifacts/sft/adapter_model.safetensors"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stages that have run: base wrote a folder, sft a folder, a file of lines and metrics."""
    monkeypatch.chdir(tmp_path)
    write_text(Path("artifacts/base/model.safetensors"), "weights")
    record("base", "artifacts/base")
    write_text(Path(ADAPTER), "low rank")
    write_text(Path("artifacts/sft/tokenizer/words.json"), "{}")
    write_text(Path("artifacts/sft_samples.jsonl"), "{}\n{}\n")
    write_json(Path("metrics/sft.json"), {"sft_loss": 1.0})
    record("sft", "artifacts/sft", "artifacts/sft_samples.jsonl", "metrics/sft.json", inputs=["artifacts/base"])
    return tmp_path


def record(stage: str, *outs: str, inputs: list[str] | None = None) -> None:
    written = [Path(out) for out in outs]
    where = Path(f"provenance/{stage}.json")
    given = [Path(one) for one in inputs or []]
    write_provenance(where, stage=stage, params={}, inputs=given, outputs=written[:1], written=[*written, where])


def reads(*paths: str, reader: str = "ppo") -> str | None:
    return check_read([Path(path) for path in paths], Path(), reader=reader)


def flip(file: str, at: int = 0) -> None:
    data = bytearray(Path(file).read_bytes())
    data[at] ^= 1
    Path(file).write_bytes(data)


def test_what_is_as_it_was_written_passes(made: Path) -> None:
    assert reads("artifacts/base", "artifacts/sft", "artifacts/sft_samples.jsonl", "metrics/sft.json") is None
    assert reads("artifacts/sft/tokenizer") is None  # a part of an output
    assert reads("rlhf/ppo", "inputs/reward", "/elsewhere/model") is None  # nothing that a stage makes
    assert reads("artifacts/none") is None  # what is not there is for its reader to miss


@pytest.mark.parametrize(
    ("harm", "file", "words"),
    [
        (lambda: flip(ADAPTER), ADAPTER, "is not what sft wrote"),
        (lambda: flip("artifacts/sft/tokenizer/words.json", 1), "artifacts/sft/tokenizer/words.json", "is not what"),
        (lambda: Path("artifacts/sft_samples.jsonl").write_text("{}\n"), "artifacts/sft_samples.jsonl", "is not what"),
        (lambda: Path("artifacts/sft_samples.jsonl").write_text(""), "artifacts/sft_samples.jsonl", "is not what"),
        (lambda: Path(ADAPTER).unlink(), ADAPTER, "is missing; sft wrote it"),
        (lambda: write_text(Path("artifacts/sft/extra.bin"), ""), "artifacts/sft/extra.bin", "not written by sft"),
        (lambda: write_json(Path("metrics/sft.json"), {"sft_loss": 0.5}), "metrics/sft.json", "is not what sft wrote"),
    ],
)
def test_what_is_not_is_named_with_its_stage(made: Path, harm: Callable[[], object], file: str, words: str) -> None:
    harm()
    with pytest.raises(UserError) as caught:
        reads("artifacts/base", "artifacts/sft", "artifacts/sft_samples.jsonl", "metrics/sft.json")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{file} ")
    assert words in line
    assert "provenance/sft.json" in line
    assert "dvc repro sft" in line
    assert reads("artifacts/base") is None  # what is not read does not matter


def test_several_faults_are_one_line(made: Path) -> None:
    flip(ADAPTER)
    flip("artifacts/base/model.safetensors")
    with pytest.raises(UserError, match=r"^artifacts/base/model.safetensors is not what base wrote.*, and 1 more; "):
        reads("artifacts/base", "artifacts/sft")


def test_a_folder_that_stages_share_may_hold_other_files(made: Path) -> None:
    write_json(Path("metrics/base.json"), {})
    record("base", "artifacts/base", "metrics/base.json")
    write_json(Path("metrics/notes.json"), {})
    assert reads("metrics") is None
    flip("metrics/base.json")
    with pytest.raises(UserError, match=r"metrics/base\.json is not what base wrote"):
        reads("metrics")


def test_a_stage_is_not_held_to_its_own_record(made: Path) -> None:
    flip(ADAPTER)
    Path("provenance/sft.json").write_text("{")
    assert reads("artifacts/base", reader="sft") is None


def test_without_a_record_it_is_said(made: Path) -> None:
    Path("provenance/base.json").unlink()
    assert str(reads("artifacts/base", "artifacts/sft")).endswith(": artifacts/base")
    record_of_before = json.loads(Path("provenance/sft.json").read_text())
    del record_of_before["files"]  # as it was written before there were any
    write_json(Path("provenance/sft.json"), record_of_before)
    assert reads("artifacts/base", "artifacts/sft") is None  # a project without any: nothing is checked


def test_a_broken_record_vouches_for_nothing(made: Path) -> None:
    Path("provenance/sft.json").write_text('{"files": {')
    assert reads("artifacts/base") is None  # another stage's business
    with pytest.raises(UserError, match=r"provenance/sft\.json:1: not JSON.*artifacts/sft"):
        reads("artifacts/base", "artifacts/sft")


def test_files_that_dvc_ignores_are_no_extra(made: Path) -> None:
    Path(".dvcignore").write_text("*.swp\n")
    write_text(Path("artifacts/sft/.words.swp"), "")
    assert reads("artifacts/sft") is None


def test_a_study_that_alters_an_output_may_say_so(made: Path) -> None:
    flip(ADAPTER)
    record_again(Path("provenance/sft.json"))
    assert reads("artifacts/sft") is None
    known, broken = read_records(Path())
    assert broken == []
    assert {written.stage for written in known.values()} == {"base", "sft"}


def test_records_name_files_relative_to_the_project(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    flip("artifacts/base/model.safetensors")
    assert check_read([Path("artifacts/base")], copy, reader="sft") is None
