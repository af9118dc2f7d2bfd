"""The split of a dataset in two, class by class, by its properties."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np

from data_processing.sources.splits import split


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    count=st.integers(0, 12),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_splits_are_disjoint_whole_and_of_the_right_size(labels, count, share, seed):
    first, second = split(labels, count, share, seed)
    assert sorted(first + second) == list(range(len(labels)))
    assert first == sorted(first) and second == sorted(second)
    for label in set(labels):
        all_of_it = labels.count(label)
        chosen = sum(labels[k] == label for k in first)
        if all_of_it == 1:
            assert chosen == 1
        elif count:
            assert chosen == min(count, all_of_it - 1)  # one is left to test on
        else:
            assert 1 <= chosen <= all_of_it - 1 and abs(chosen - (1 - share) * all_of_it) <= 1
    assert split(labels, count, share, seed) == (first, second)


def test_splits_follow_the_seed_and_grow():
    labels = np.arange(400) % 4
    first = {seed: set(split(labels, 15, 0.2, seed)[0]) for seed in range(3)}
    assert len(first[0] & first[1]) < 40 and len(first[1] & first[2]) < 40  # 60 each; 9 in common by chance
    for fewer, more in ((15, 30), (30, 60)):
        assert set(split(labels, fewer, 0.2, 0)[0]) < set(split(labels, more, 0.2, 0)[0])
