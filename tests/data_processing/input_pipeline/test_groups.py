"""Batches of one shape: which examples come together, in what order, and how many may wait."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline import groups

SIDES = [(3, 5), (5, 3), (2, 2), (7, 1), (4, 4)]


def examples_of(sizes, read=None):
    """Images of one number each, which says the place; `read` counts those that were taken."""

    def generate():
        for k, (height, width) in enumerate(sizes):
            if read is not None:
                read.append(k)
            yield {"image": np.full([height, width, 3], k % 256, np.uint8), "name": f"{k}", "place": k}

    signature = {
        "image": tf.TensorSpec([None, None, 3], tf.uint8),
        "name": tf.TensorSpec([], tf.string),
        "place": tf.TensorSpec([], tf.int64),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def batches_of(examples, batch_size, **options):
    return list(groups.by_shape(examples, batch_size, lambda one: one["image"], **options).as_numpy_iterator())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(SIDES), max_size=30),
    st.integers(1, 4),
    st.sampled_from([None, 1, 16, 40]),
    st.sampled_from([1, 200, 10**6]),
)
def test_each_comes_once_with_others_of_its_shape(sizes, batch_size, most, waiting):
    batches = batches_of(examples_of(sizes), batch_size, most=most, waiting=waiting)
    assert sorted(k for batch in batches for k in batch["place"]) == list(range(len(sizes)))
    of_shape = {}
    for batch in batches:
        rows = len(batch["place"])
        size = batch["image"].shape[1:3]
        assert 0 < rows <= batch_size and (rows == 1 or most is None or rows * size[0] * size[1] <= most)
        for image, name, k in zip(batch["image"], batch["name"], batch["place"], strict=True):
            assert size == sizes[k] and (image == k % 256).all() and name == str(k).encode()
        of_shape.setdefault(size, []).extend(batch["place"])
    assert all(places == sorted(places) for places in of_shape.values())
    if most is None and waiting == 10**6:
        whole = {size: -(-count // batch_size) for size, count in Counter(sizes).items()}
        assert len(batches) == sum(whole.values())


def test_no_more_wait_in_memory_than_may():
    """A thousand sizes that come once each, before another of the first size."""
    read, sizes = [], [(10, 10), *((20, 21 + k) for k in range(1000)), (10, 10)]
    waiting, largest = 500_000, 3 * 20 * 1020
    given_out, most = [], 0
    for batch in groups.by_shape(examples_of(sizes, read), 4, lambda one: one["image"], waiting=waiting):
        given_out.append(batch["place"].numpy().tolist())
        done = {k for places in given_out for k in places}
        most = max(most, sum(3 * sizes[k][0] * sizes[k][1] for k in set(read) - done))
    assert waiting / 2 < most <= waiting + largest
    # The small one had its time: the large ones made room.
    assert [0, 1001] in given_out and len(given_out) == 1001


def test_the_largest_group_makes_room():
    sizes = [(10, 10), (6, 6), (6, 6), (6, 6), (6, 6), (10, 10)]
    batches = batches_of(examples_of(sizes), 5, waiting=750)
    assert [batch["place"].tolist() for batch in batches] == [[1, 2, 3, 4], [0, 5]]


def test_one_known_shape_needs_no_groups():
    examples = tf.data.Dataset.range(5).map(lambda k: {"image": tf.fill([2, 2, 3], k)})
    batches = batches_of(examples, 2, waiting=1)
    assert [batch["image"][:, 0, 0, 0].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]


def test_what_fails_says_so():
    examples = tf.data.Dataset.range(1, -1, -1).map(
        lambda k: {
            "image": tf.zeros([k + 1, 1, 3]),
            "x": tf.debugging.check_numerics(1.0 / tf.cast(k, tf.float32), "0"),
        }
    )
    with pytest.raises(tf.errors.OpError, match="Inf values"):
        batches_of(examples, 1)
