"""Agreement against published worked examples."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.stats import wilson
from rlhf.prepare.agreement import Level, Unit, cohens_kappa, couples, disagreements, krippendorffs_alpha


def units(*rows: str) -> list[Unit]:
    """Units from one string an annotator; a dot is a missing label."""
    columns = itertools.zip_longest(*(row.split() for row in rows))
    return [{f"annotator {k}": label for k, label in enumerate(column) if label != "."} for column in columns]


def numbers(made: list[Unit]) -> list[Unit]:
    return [{name: int(label) for name, label in unit.items()} for unit in made]


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": examples A, B, and C with its other levels (D).
BINARY = units("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
NOMINAL = units("a a b b d c c c e d d a", "b a b b b c c c e d d d")
FOUR = units("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")


@pytest.mark.parametrize(
    ("made", "level", "alpha"),
    [
        (BINARY, "nominal", 0.095),
        (NOMINAL, "nominal", 0.692),
        (FOUR, "nominal", 0.743),
        (numbers(FOUR), "ordinal", 0.815),
        (numbers(FOUR), "interval", 0.849),
    ],
)
def test_krippendorffs_own_examples(made: list[Unit], level: Level, alpha: float) -> None:
    assert krippendorffs_alpha(made, level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_one_in_agreement_and_none_without_variation() -> None:
    assert krippendorffs_alpha(units("a b a", "a b a")) == 1
    assert krippendorffs_alpha(units("a a a", "a a a")) is None
    assert krippendorffs_alpha(units("a . b", ". a .")) is None  # nowhere two labels
    assert krippendorffs_alpha([]) is None
    worse = krippendorffs_alpha(units("a b a b", "b a b a"))
    assert worse is not None
    assert worse < 0


def test_a_label_that_stands_alone_in_its_unit_does_not_count() -> None:
    assert krippendorffs_alpha([*FOUR, {"annotator 9": "7"}]) == krippendorffs_alpha(FOUR)


def table(*cells: tuple[str, str, int]) -> tuple[list[str], list[str]]:
    pairs = [(a, b) for a, b, n in cells for _ in range(n)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize(
    ("cells", "kappa"),
    [
        # 35 of 50 agree, chance .5: (.7 - .5) / .5
        ([("yes", "yes", 20), ("yes", "no", 5), ("no", "yes", 10), ("no", "no", 15)], 0.4),
        # Fleiss, Levin and Paik 2003, Statistical Methods for Rates and Proportions, table 18.1: .68
        (
            [
                ("psychotic", "psychotic", 75), ("psychotic", "neurotic", 1), ("psychotic", "organic", 4),
                ("neurotic", "psychotic", 5), ("neurotic", "neurotic", 4), ("neurotic", "organic", 1),
                ("organic", "organic", 10),
            ],
            0.23 / 0.34,
        ),
        ([("a", "b", 5), ("b", "a", 5)], -1.0),
    ],
)  # fmt: skip
def test_kappa_of_textbook_tables(cells: list[tuple[str, str, int]], kappa: float) -> None:
    assert cohens_kappa(*table(*cells)) == pytest.approx(kappa)


def test_kappa_where_chance_always_agrees() -> None:
    assert cohens_kappa(["a", "a"], ["a", "a"]) is None
    assert cohens_kappa(["a", "a"], ["b", "b"]) == 0
    for sequences in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(ValueError, match="equal, non-empty"):
            cohens_kappa(*sequences)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_kappa_is_symmetrical_and_blind_to_names(pairs: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    other = {"a": "z", "b": "y", "c": "x"}
    kappa = cohens_kappa(first, second)
    for again in (cohens_kappa(second, first), cohens_kappa([other[a] for a in first], [other[b] for b in second])):
        assert again == (None if kappa is None else pytest.approx(kappa))
    if kappa is not None:
        assert -1 <= kappa <= 1


def test_each_two_side_by_side() -> None:
    found = {(one.first, one.second): one for one in couples(units("a b . a", "a a b .", ". . . b"))}
    assert set(found) == {("annotator 0", "annotator 1"), ("annotator 0", "annotator 2")}
    both = found["annotator 0", "annotator 1"]
    assert (both.units, both.agreement) == (2, wilson(1, 2))
    assert both.kappa == 0  # observed .5; chance (1 * 2 + 1 * 0) / 4 = .5


def test_disagreements_are_listed_the_most_disputed_first() -> None:
    made = units("a a a b", "a b b b", "a a c .")
    found = disagreements(made)
    assert [(one.unit, one.share) for one in found] == [(2, 1.0), (1, pytest.approx(2 / 3))]
    assert found[0].labels == {"annotator 0": "a", "annotator 1": "b", "annotator 2": "c"}
