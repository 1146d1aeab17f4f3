import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rlhf.measure.responses import Drift, Responses
from rlhf.measure.samples import cell, markdown, side_by_side, write_samples
from rlhf.models.policy.sampling import Sample

NASTY = [
    "a | b",
    "line\nbreak",
    "<script>x</script>",
    "**bold** _it_",
    "back\\|slash",
    "`code`",
    "# head",
    "[l](u)",
    "",
]


def answers(texts: list[str], golds: tuple[float, ...] | None) -> Responses:
    samples = tuple(Sample(f"\n\nHuman: {t}\n\nAssistant:", t, len(t) % 2 == 0, (1, 2)) for t in texts)
    n = len(texts)
    drift = Drift((0.0,) * n, (0.0,) * n, (0.0,) * n, (2,) * n)
    return Responses(samples, tuple(float(k) for k in range(n)), golds, None, drift, ())


def table(text: str) -> list[list[str]]:
    """Cells of the body of a Markdown table, as an independent parser shows them."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).enable("table").parse(text)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows:
            children = token.children or []
            assert {child.type for child in children} <= {"text", "html_inline", "text_special"}, token.content
            rows[-1].append("".join("\n" if c.type == "html_inline" else c.content for c in children))
    return rows[1:]


def test_nasty_text_stays_in_its_cell_and_reads_as_it_was() -> None:
    given_answers = {"sft": answers(NASTY, None), "ppo": answers(NASTY[::-1], (1.5,) * len(NASTY))}
    rows = table(markdown(side_by_side(given_answers, 50), ["sft", "ppo"]))
    assert len(rows) == len(NASTY)
    for row, text in zip(rows, NASTY, strict=True):
        assert len(row) == 4
        assert row[1].startswith("Human:")
        if text:
            assert row[2].startswith(text)
    assert "(0.00, 1.50)" in rows[0][3]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from("|\\`*_<>&[]\n ")))
def test_any_text_is_one_cell(text: str) -> None:
    rows = table(f"| a | b |\n| --- | --- |\n| x{cell(text)}x | y |\n")
    assert len(rows) == 1
    assert len(rows[0]) == 2
    assert "\n".join(" ".join(line.split()) for line in text.strip().splitlines()) in rows[0][0]


def test_side_by_side_keeps_order_and_count() -> None:
    rows = side_by_side({"base": answers(["a", "bb", "c"], (1.0, 2.0, 3.0))}, 2)
    assert [row["base"] for row in rows] == ["a", "bb"]
    assert rows[1] == {
        "prompt": "\n\nHuman: bb\n\nAssistant:", "base": "bb", "base_ended": True, "base_reward": 1.0, "base_gold": 2.0
    }  # fmt: skip


def test_files(tmp_path: Path) -> None:
    write_samples(tmp_path, side_by_side({"base": answers(["a", ""], None)}, 9), ["base"], "2 prompts")
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["base_gold"] for line in lines] == [None, None]
    text = (tmp_path / "samples.md").read_text()
    assert text.startswith("# 2 prompts\n")
    assert "a … (0.00)" in text
    assert "(empty) (1.00)" in text
