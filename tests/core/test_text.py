"""Characters that command a terminal or reorder a line, in text and in JSON."""

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.artifacts import read_json, read_jsonl, write_json, write_jsonl
from rlhf.core.text import json_safe, markdown_cell, markdown_code, printable

# By hand from Unicode: C0, DEL, C1, zero widths, marks, embeddings, isolates, halves of surrogate pairs, BOM, tags.
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
PIECES = ["\x1b", "\x9b", "\u202e", "\u2066", "\u200b", "\ud800x", "\U000e0041", "\r", "\n", "\t", "\\", '"', "'"]
ANY = st.lists(st.text(max_size=3) | st.sampled_from(PIECES)).map("".join)


@given(ANY)
def test_what_is_shown_commands_nothing(text: str) -> None:
    assert not COMMANDS.search(printable(text))
    assert "\n" not in printable(text)
    assert not COMMANDS.search(printable(text, lines=True))


@given(ANY)
def test_json_means_the_same_and_commands_nothing(text: str) -> None:
    safe = json_safe(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(safe) == {text: [text]}
    assert not COMMANDS.search(safe)
    safe.encode()


@given(ANY)
def test_markdown_stays_in_its_cell(text: str) -> None:
    for shown in (markdown_cell(text), markdown_code(text)):
        assert not COMMANDS.search(shown)
        assert not re.search(r"(?<!\\)\|", shown)
        assert "\n" not in shown
    assert "<" not in markdown_cell(text)
    assert markdown_code(text).count("`") == 2


def test_files_hold_it_so(tmp_path: Path) -> None:
    value = {"reply\x1b[2J": "a\x9b\u202e\ud800\U000e0041é東👩\u200d🚀"}
    write_json(tmp_path / "a.json", value)
    write_jsonl(tmp_path / "a.jsonl", [value])
    assert read_json(tmp_path / "a.json") == value
    assert read_jsonl(tmp_path / "a.jsonl") == [value]
    for path in tmp_path.iterdir():
        assert not COMMANDS.search(path.read_text(encoding="utf-8"))
        assert "é東👩\u200d🚀" in path.read_text(encoding="utf-8")
