"""The order of training examples: every pass is whole, and batches hold like lengths."""

from hypothesis import given
from hypothesis import strategies as st

from rlhf.training.order import training_order


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=120),
    st.integers(1, 3),
    st.integers(1, 7),
    st.booleans(),
)
def test_each_pass_holds_every_example_once(lengths: list[int], epochs: int, batch: int, grouped: bool) -> None:
    order = training_order(lengths, epochs=epochs, batch=batch, group_by_length=grouped, seed=3, stream="sft")
    n = len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert len(order) % batch == 0
    assert epochs * n <= len(order) < epochs * n + batch
    assert order == training_order(lengths, epochs=epochs, batch=batch, group_by_length=grouped, seed=3, stream="sft")


def test_grouping_leaves_less_padding() -> None:
    lengths = [(37 * number) % 101 + 1 for number in range(512)]

    def padding(grouped: bool) -> int:
        order = training_order(lengths, epochs=1, batch=8, group_by_length=grouped, seed=0, stream="sft")
        batches = [[lengths[index] for index in order[at : at + 8]] for at in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(True) < padding(False) / 5


def test_each_seed_each_stream_and_each_pass_has_an_order_of_its_own() -> None:
    def order(seed: int, stream: str) -> list[int]:
        return training_order([1] * 50, epochs=2, batch=10, group_by_length=False, seed=seed, stream=stream)

    orders = [order(0, "a")[:50], order(0, "a")[50:], order(1, "a")[:50], order(0, "b")[:50]]
    assert len({tuple(one) for one in orders}) == 4
