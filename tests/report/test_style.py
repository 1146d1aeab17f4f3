"""Colours can be read in the light and in the dark: contrast by WCAG 2.1, worked from the style sheet."""

import re
from pathlib import Path

import pytest

import rlhf.report.html
from rlhf.report.draw import PROPERTIES

CSS = (Path(rlhf.report.html.__file__).with_name("templates") / "page.css").read_text()
DECLARED = r"(--[\w-]+): (#[0-9a-f]{6})"
LIGHT = {name: color for color, name in PROPERTIES.items()} | dict(re.findall(DECLARED, CSS.split("@media")[0]))
(DARK_BLOCK,) = re.findall(r"@media screen and \(prefers-color-scheme: dark\) \{ (:root \{[^}]*\}) \}", CSS)
DARK = dict(re.findall(DECLARED, DARK_BLOCK))
WORDS = ("text", "muted", "link", "failed", "suspect", "sound", "unknown")


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_and_lines_stand_out(scheme: dict[str, str]) -> None:
    for name in WORDS:
        for ground in ("--paper", "--soft"):
            assert contrast(scheme[f"--{name}"], scheme[ground]) >= 4.5, (name, ground)
    for name in set(PROPERTIES.values()) - {"--grid"}:
        assert contrast(scheme[name], scheme["--paper"]) >= 3, name


def test_the_dark_scheme_leaves_no_colour_of_the_light_one() -> None:
    assert set(DARK) == set(LIGHT)
    assert re.findall(r"#[0-9a-f]{3,8}\b", re.sub(r":root \{[^}]*\}", "", CSS)) == []
