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


def positions(records, shuffle_buffer, count, first=0):
    """The records at `count` positions from `first` on, over as many epochs as that takes."""
    stream, taken = order.sample_positions(records, shuffle_buffer, 7, first), []
    while sum(map(len, taken)) < count:
        place, window = next(stream)
        assert np.array_equal(place, first + sum(map(len, taken)) + np.arange(len(window)))
        taken.append(window)
    return np.concatenate(taken)[:count]


@pytest.mark.parametrize("records, shuffle_buffer", [(10, 2048), (29, 12), (100, 2048), (1000, 256), (2500, 1024)])
def test_any_position_begins_the_same_sequence(records, shuffle_buffer):
    whole = positions(records, shuffle_buffer, 3 * records + 40)
    assert all(np.array_equal(np.sort(epoch), np.arange(records)) for epoch in whole[:-40].reshape(3, records))
    for first in range(0, 2 * records, 1 + records // 97):
        np.testing.assert_array_equal(positions(records, shuffle_buffer, 40, first), whole[first:][:40])


@pytest.mark.parametrize("size", [1, 2, 8, 128])
@pytest.mark.parametrize("records", [8 * 2048, 40_000])
def test_ranks_have_chunks_of_their_own(records, size):
    """Of a window of full lanes each rank has whole chunks; of a short one, at the end, mostly parts of them."""
    begin = 0
    for window in order.epoch_order(records, 2048, 3, 5):
        lane = (5 * records + begin + np.arange(len(window))) % size
        chunks = [np.unique(window[lane == rank] // order.CHUNK) for rank in range(size)]
        owned = sum(map(len, chunks)) / len(np.unique(window // order.CHUNK))
        whole = len(window) == 2048
        assert owned == 1 if whole else owned <= 2.1 * max(1, size / order.lanes(len(window)))
        begin += len(window)


@pytest.mark.parametrize("shuffle_buffer, lanes", [(1024, 64), (2048, 128), (3000, 128), (16384, 1024), (65536, 1024)])
def test_neighbours_are_as_far_apart_as_there_are_lanes(shuffle_buffer, lanes):
    records, steps = 200_000, []
    window = next(order.epoch_order(records, shuffle_buffer, 1, 0))
    assert abs(len(window) - shuffle_buffer) <= lanes * order.CHUNK / 2
    place = np.full(records, -1)
    place[window] = np.arange(len(window))
    for chunk in np.unique(window // order.CHUNK):
        steps.append(np.diff(np.sort(place[chunk * order.CHUNK :][: order.CHUNK])))
    assert np.all(np.array(steps) % lanes == 0) and np.min(steps) == lanes


@pytest.mark.parametrize("records", [2, 10, 29, 100])
def test_few_records_are_shuffled_one_by_one(records):
    """Each record is anywhere, and followed by any other, about as often as chance has it."""
    epochs = 400
    whole = positions(records, 2048, epochs * records).reshape(epochs, records)
    # Means of uniform places: their deviation is that of a uniform number over the root of the epochs.
    mean = np.argsort(whole, axis=1).mean(axis=0)
    assert np.abs(mean - (records - 1) / 2).max() < 5 * records / np.sqrt(12 * epochs)
    neighbours = np.mean(np.abs(np.diff(whole, axis=1)) == 1)
    assert abs(neighbours - 2 / records) < 5 * np.sqrt(2 / records / (epochs * max(records - 1, 1)))


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
