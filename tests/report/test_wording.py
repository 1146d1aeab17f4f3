"""Words are chosen by the numbers, and by nothing else."""

import pytest

from rlhf.report.wording import Numbers, percent, show


def numbers(**values: object) -> Numbers:
    return Numbers(values)


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (0.1, 0.2, 0.3, "rose"),
        (-0.3, -0.2, -0.1, "fell"),
        (-0.1, 0.2, 0.5, "did not move beyond its interval"),
        (0.0, 0.2, 0.5, "did not move beyond its interval"),
        (None, 0.2, None, "rose"),
        (None, -0.2, None, "fell"),
        (None, 0.0, None, "stayed"),
    ],
)
def test_what_a_difference_allows(low: float | None, value: float, high: float | None, said: str) -> None:
    assert numbers(gain=value, gain_low=low, gain_high=high).moved("gain") == said


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.51, 0.7, "wins more"), (0.2, 0.49, "loses more"), (0.4, 0.6, "neither")]
)
def test_what_a_win_rate_allows(low: float, high: float, word: str) -> None:
    assert numbers(rate=0.5, rate_low=low, rate_high=high).wins("rate").startswith(word)


def test_spans_and_values() -> None:
    n = numbers(a=0.6417, a_low=0.6025, a_high=0.679, b=5800, c=None, d=0.00642, e="completed", f=-0.00333)
    assert n.span("a") == "0.64 (0.60 to 0.68)"
    assert (n.span("b"), n.span("c"), n.span("d"), n.span("e")) == ("5,800", "–", "0.0064", "completed")
    assert n.show("f") == "-0.0033"
    assert "c" not in n
    assert n.has("a", "b")
    assert not n.has("a", "c")
    with pytest.raises(KeyError):
        n["c"]


def test_plain_values() -> None:
    assert (show(True), show(1234567), show(1.005e4), show(None), percent(0.154)) == (
        "yes",
        "1,234,567",
        "10,050.00",
        "–",
        "15 %",
    )
