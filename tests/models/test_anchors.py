"""Anchors, boxes and samples, against published numbers and loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from models import anchors, boxes

# Of py-faster-rcnn's generate_anchors.py: base 16 pixels, ratios 0.5, 1, 2, scales 8, 16, 32; right and bottom are the
# numbers of the last pixels.
PUBLISHED = [
    [-84, -40, 99, 55],
    [-176, -88, 191, 103],
    [-360, -184, 375, 199],
    [-56, -56, 71, 71],
    [-120, -120, 135, 135],
    [-248, -248, 263, 263],
    [-36, -80, 51, 95],
    [-80, -168, 95, 183],
    [-168, -344, 183, 359],
]


def random_boxes(count, seed=0, side=200):
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, side, [count, 2]), random.uniform(5, side / 2, [count, 2])
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def objects_of(box, label, difficult=None):
    label = np.array(label)
    difficult = np.zeros(label.shape, bool) if difficult is None else difficult
    batch = {"box": box, "label": label, "difficult": difficult}
    types = {"box": tf.float32, "label": tf.int64, "difficult": tf.bool}
    return boxes.Objects({name: tf.constant(value, types[name]) for name, value in batch.items()})


def test_anchors_are_the_published_ones():
    """Exactly, once their last pixels' numbers become edges: sides are rounded in the same way."""
    np.testing.assert_array_equal(anchors.of_cell((128, 256, 512)), np.array(PUBLISHED) + [0, 0, 1, 1])


def test_anchors_of_a_map_stand_16_pixels_apart_row_after_row():
    found = anchors.of_map((16, 64), 3, 5).numpy().reshape(3, 5, 6, 4)
    for y, x in np.ndindex(3, 5):
        np.testing.assert_array_equal(found[y, x], anchors.of_cell((16, 64)) + 16 * np.array([x, y, x, y]))


def test_anchors_of_padding_and_across_the_border():
    places = anchors.of_map((32,), 4, 4)
    sizes = tf.constant([[64, 64], [33, 32], [0, 0]])
    there = anchors.on_image(places, sizes).numpy().reshape(3, 4, 4, 3)
    assert there[0].all() and not there[2].any()
    # 33 rows are three cells of 16 pixels, as an image without padding has; 32 columns are two.
    assert there[1, :3, :2].all() and there[1].sum() == 3 * 2 * 3
    inside = anchors.inside(places, sizes).numpy()
    expected = [
        [0 <= left and 0 <= top and right <= width and bottom <= height for left, top, right, bottom in places.numpy()]
        for height, width in sizes.numpy()
    ]
    np.testing.assert_array_equal(inside, expected)
    assert inside[0].any() and not inside[2].any()


@pytest.mark.parametrize("scales", [(1, 1, 1, 1), (0.1, 0.1, 0.2, 0.2)])
def test_decoding_what_was_encoded_is_the_identity(scales):
    a, b = random_boxes(500), random_boxes(500, seed=1)
    offsets = boxes.encode(a, b, scales)
    np.testing.assert_allclose(boxes.decode(a, offsets, scales), b, atol=1e-3)
    # Centre and size by hand, of one.
    anchor, box = np.array([[0, 0, 10, 20]], np.float32), np.array([[5, 10, 25, 20]], np.float32)
    by_hand = np.array([1, 0.25, np.log(2), np.log(0.5)]) / scales
    np.testing.assert_allclose(boxes.encode(anchor, box, scales)[0], by_hand, rtol=1e-5)


def test_wild_offsets_stay_finite():
    wild = np.array([[1e3, -1e3, 1e30, -1e30]], np.float32)
    assert np.isfinite(boxes.decode(random_boxes(1), wild)).all()


def test_boxes_are_clipped_to_their_own_image():
    wide = np.array([[[-5, 10, 300, 400]], [[-5, 10, 300, 400]]], np.float32)
    clipped = boxes.clip(tf.constant(wide), tf.constant([[200, 100], [50, 350]]))
    np.testing.assert_array_equal(clipped, [[[0, 10, 100, 200]], [[0, 10, 300, 50]]])


@pytest.mark.parametrize("count", [0, 3, 40, 1000])
def test_sample_takes_as_many_as_there_are(count):
    candidates = np.random.default_rng(0).random([4, 50]) < [[0.0], [0.1], [0.5], [1.0]]
    keys = boxes.random_keys(tf.constant([[7, k] for k in range(4)], tf.int64), 50, 0)
    sampled = boxes.sample(tf.constant(candidates), count, keys).numpy()
    assert not (sampled & ~candidates).any()
    np.testing.assert_array_equal(sampled.sum(1), np.minimum(candidates.sum(1), count))


def test_random_keys_depend_on_an_images_seed_alone():
    seeds = np.array([[1, 2], [3, 4], [5, 6]])
    together = boxes.random_keys(tf.constant(seeds), 9, 0).numpy()
    np.testing.assert_array_equal(boxes.random_keys(tf.constant(seeds[2:0:-1]), 9, 0), together[2:0:-1])
    assert not np.isin(boxes.random_keys(tf.constant(seeds), 9, 1), together).any()
    assert len(np.unique(together)) == 27


def anchor_labels(places, objects, size):
    """Positive, negative or neither by the rules of the paper, in loops: all of them, none sampled."""
    box, wanted, true = (x.numpy()[0] for x in (objects.boxes, objects.wanted, objects.true))
    usable = [a[0] >= 0 and a[1] >= 0 and a[2] <= size[1] and a[3] <= size[0] for a in places]
    overlap = np.array([[iou(a, b) if t else 0 for b, t in zip(box, true, strict=True)] for a in places])
    overlap[~np.array(usable)] = 0
    labels = np.where(usable, 0, -1)
    labels[(overlap >= 0.3).any(1)] = -1
    for k in np.flatnonzero(wanted):
        labels[overlap[:, k] >= 0.7] = 1
        if overlap[:, k].max() > 0:
            labels[np.isclose(overlap[:, k], overlap[:, k].max(), rtol=1e-6)] = 1
    return labels


def test_targets_of_anchors_against_loops():
    places = anchors.of_map((16, 32), 8, 10)
    size = (120, 150)
    box = random_boxes(6, seed=4, side=100)[None]
    objects = objects_of(box, [[0, 1, 2, 3, 4, -1]], [[False, False, True, False, False, False]])
    expected = anchor_labels(places.numpy(), objects, size)
    seeds = tf.constant([[1, 2]], tf.int64)
    labels, offsets = anchors.targets(places, objects, tf.constant([size]), seeds)
    labels = labels.numpy()[0]
    assert (expected == 1).sum() <= 128 < (expected == 0).sum()  # so that all positives are sampled
    np.testing.assert_array_equal(labels == 1, expected == 1)
    assert set(np.flatnonzero(labels == 0)) <= set(np.flatnonzero(expected == 0))
    assert (labels >= 0).sum() == min(256, (expected >= 0).sum())
    for k in np.flatnonzero(labels == 1):
        overlap = [iou(places[k].numpy(), b) if w else -1 for b, w in zip(box[0], objects.wanted[0], strict=False)]
        nearest = box[0, np.argmax(overlap)]
        np.testing.assert_allclose(offsets[0, k], boxes.encode(places[k], nearest), atol=1e-5)


def test_at_most_half_of_the_sampled_anchors_are_positive():
    places = anchors.of_map((64,), 40, 40)
    # An object of the shape of each anchor of the middle rows makes more than 128 positive.
    box = places.numpy().reshape(40, 40, 3, 4)[5:35, 5:35:2, 1].reshape(1, -1, 4)
    objects = objects_of(box, np.zeros(box.shape[:2], np.int64))
    labels, _ = anchors.targets(places, objects, tf.constant([[640, 640]]), tf.constant([[1, 2]], tf.int64))
    assert (labels.numpy() == 1).sum() == 128 and (labels.numpy() == 0).sum() == 128


def test_without_objects_all_anchors_are_background_and_a_blank_image_has_none():
    objects = objects_of(np.zeros([2, 0, 4]), np.zeros([2, 0]))
    places, seeds = anchors.of_map((16,), 12, 12), tf.constant([[1, 2], [3, 4]], tf.int64)
    labels, offsets = anchors.targets(places, objects, tf.constant([[192, 192], [0, 0]]), seeds)
    assert (labels[0].numpy() == 0).sum() == 256 and (labels[0].numpy() == 1).sum() == 0
    assert (labels[1].numpy() == -1).all() and np.isfinite(offsets).all()
