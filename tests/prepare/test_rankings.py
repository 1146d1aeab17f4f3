import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.prepare.agreement import krippendorffs_alpha
from rlhf.prepare.rankings import Preference, Ranking, comparison_units, preferences, ties


def ranking(ranks: list[float], annotator: str = "ann") -> Ranking:
    return Ranking("Why?", tuple(f"answer {k}" for k in range(len(ranks))), tuple(ranks), annotator)


def test_four_responses_by_hand() -> None:
    # 2 > 0 > 1 = 3: five of the six pairs are decided
    found = preferences(ranking([2, 3, 1, 3]))
    assert {f"{p.chosen[-1]}>{p.rejected[-1]}" for p in found} == {"2>0", "2>1", "2>3", "0>1", "0>3"}
    assert {p.weight for p in found} == {1 / 6}
    assert ties(ranking([2, 3, 1, 3])) == 1


def test_two_responses_are_one_pair_of_weight_one() -> None:
    assert preferences(ranking([1, 2])) == [Preference("answer 0", "answer 1", 1.0)]
    assert preferences(ranking([2.5, 2.5])) == []


@given(st.lists(st.integers(1, 5).map(float), min_size=2, max_size=9))
def test_a_ranking_counts_as_one_less_its_ties(ranks: list[float]) -> None:
    made = ranking(ranks)
    found, all_pairs = preferences(made), math.comb(len(ranks), 2)
    assert len(found) + ties(made) == all_pairs
    assert sum(p.weight for p in found) == pytest.approx(1 - ties(made) / all_pairs)
    place = dict(zip(made.responses, made.ranks, strict=True))
    assert all(place[p.chosen] < place[p.rejected] for p in found)


def test_equal_texts_are_no_pair() -> None:
    assert preferences(Ranking("Why?", ("a", "a", "b"), (1, 2, 3), "ann")) == [
        Preference("a", "b", 1 / 3),
        Preference("a", "b", 1 / 3),
    ]


@pytest.mark.parametrize(("responses", "ranks"), [(("a",), (1,)), (("a", "b"), (1,)), ((), ())])
def test_too_little_is_refused(responses: tuple[str, ...], ranks: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="at least two responses"):
        Ranking("Why?", responses, ranks, "ann")


def test_annotators_who_rank_alike_agree_whatever_the_order_of_the_responses() -> None:
    one = Ranking("Why?", ("a", "b", "c"), (1, 2, 2), "ann")
    same = Ranking("Why?", ("c", "a", "b"), (5, 1, 5), "bob")
    items, found = comparison_units([one, same])
    assert items == [("Why?", "a", "b"), ("Why?", "a", "c"), ("Why?", "b", "c")]
    assert found == [{"ann": "first", "bob": "first"}] * 2 + [{"ann": "tie", "bob": "tie"}]
    assert krippendorffs_alpha(found) == 1
    reverse = Ranking("Why?", ("a", "b", "c"), (3, 2, 1), "cem")
    assert [unit["cem"] for unit in comparison_units([one, reverse])[1]] == ["second"] * 3
