"""Figures are the same bytes every time, need nothing from outside, and do not need colour."""

import re
from xml.etree import ElementTree

from rlhf.report.draw import STYLES, Labels, Series, bars, lines, ranges

ONE = Series("one", [0, 1, 2], [1.0, 2.0, 1.5], [0.5, 1.5, 1.0], [1.5, 2.5, 2.0])
TWO = Series("two", [0, 1, 2], [2.0, 1.0, 0.5])
LABELS = Labels("name", "steps", "reward, nats", "A caption")


def test_equal_data_equal_bytes() -> None:
    assert lines([ONE, TWO], LABELS).draw() == lines([ONE, TWO], LABELS).draw()
    assert lines([ONE, TWO], LABELS).draw() != lines([TWO, ONE], LABELS).draw()


def test_it_is_svg_with_words_and_without_the_moment() -> None:
    svg = lines([ONE, TWO], LABELS).draw()
    words = {element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")}
    assert {"steps", "reward, nats", "one", "two"} <= words
    assert not re.search(r"\d{4}-\d\d-\d\d|dc:date|metadata", svg)
    assert "<?xml" not in svg
    assert not re.search(r'(href|src)="(?!#)', svg)
    root = re.match(r"<svg[^>]*>", svg)
    assert root
    assert "viewBox" in root[0]
    assert not re.search(r'\b(width|height)="', root[0])  # as wide as its place


def test_two_figures_share_no_names() -> None:
    a, b = (lines([ONE], Labels(name, "x", "y", "")).draw() for name in ("a", "b"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (a, b)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", a))
    assert used <= ids[0]


def test_intervals_are_drawn() -> None:
    plain = Series("one", ONE.x, ONE.y)
    assert len(lines([ONE], LABELS).draw()) > len(lines([plain], LABELS).draw())
    x = Series("one", [0.2, 0.4], [0, 1], [0.1, 0.3], [0.3, 0.5])
    bare = Series("one", [0.2, 0.4], [0, 1])
    assert "LineCollection" in ranges(["a", "b"], [x], LABELS).draw()
    assert "LineCollection" not in ranges(["a", "b"], [bare], LABELS).draw()


def test_what_is_drawn_is_told_in_words() -> None:
    assert lines([TWO], LABELS).alt == "reward, nats over steps. two: 2 at 0, 0.5 at 2"
    assert bars(["sft"], [1.25], Labels("t", "minutes", "", "")).alt == "minutes. sft 1.25"


def test_series_are_told_apart_without_colour() -> None:
    assert len({(line, mark) for _, line, mark in STYLES}) == len({mark for _, _, mark in STYLES}) == len(STYLES)
    grey = [int(c[1:3], 16) * 0.3 + int(c[3:5], 16) * 0.59 + int(c[5:7], 16) * 0.11 for c, _, _ in STYLES]
    assert max(grey) < 200  # dark enough on white
