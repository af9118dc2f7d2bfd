"""The order of the samples: permutations that are well mixed, and can begin anywhere."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_processing.input_pipeline import order


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 50), st.data())
def test_order_is_a_permutation_from_any_position_on(records, shuffle_buffer, seed, epoch, data):
    whole = np.concatenate(list(order.epoch_order(records, shuffle_buffer, seed, epoch)))
    np.testing.assert_array_equal(np.sort(whole), np.arange(records))
    first = data.draw(st.integers(0, records - 1))
    rest = np.concatenate(list(order.epoch_order(records, shuffle_buffer, seed, epoch, first)))
    np.testing.assert_array_equal(rest, whole[first:])


def test_a_long_order_is_well_mixed():
    """Neighbours in the shards are far from each other, and where a record stands says nothing of where it was."""
    whole = np.concatenate(list(order.epoch_order(100_000, 2048, 1, 0)))
    assert np.mean(np.abs(np.diff(whole)) == 1) < 0.002
    assert abs(np.corrcoef(np.arange(100_000), whole)[0, 1]) < 0.05
    # And those that are shuffled together are others in the next epoch.
    together, next_time = (next(order.epoch_order(100_000, 2048, 1, epoch)) for epoch in (0, 1))
    assert len(np.intersect1d(together, next_time)) < 200


@pytest.mark.parametrize("step", [2, 16, 64])
def test_images_of_one_orientation_come_together(step):
    """Over three epochs, of a number of records that no step divides, and wherever one begins."""
    records, buffer = 5011, 2048
    portrait = np.random.default_rng(0).random(records) < 0.27
    stream = order.sample_positions(records, buffer, 5, 0, portrait)
    taken = []
    while sum(map(len, taken)) < 3 * records:
        taken.append(next(stream)[1])
    taken = np.concatenate(taken)[: 3 * records]
    for epoch in range(3):
        assert np.array_equal(np.sort(taken[epoch * records : (epoch + 1) * records]), np.arange(records))
    steps = portrait[taken[: len(taken) - len(taken) % step]].reshape(-1, step)
    mixed = steps.any(axis=1) & ~steps.all(axis=1)
    assert mixed.mean() < (0.01 if step == 2 else 0.12), mixed.mean()
    at_random = portrait[np.random.default_rng(1).permutation(taken)][: steps.size].reshape(-1, step)
    assert mixed.mean() < 0.2 * (at_random.any(axis=1) & ~at_random.all(axis=1)).mean()
    for first in (1, 777, 5011, 7059):
        assert np.array_equal(
            next(order.sample_positions(records, buffer, 5, first, portrait))[1][:50], taken[first : first + 50]
        )
