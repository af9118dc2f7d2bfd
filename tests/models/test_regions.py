"""Proposals, samples, crops and detections against loops in NumPy and numbers by hand."""

import numpy as np
import pytest
import tensorflow as tf

from models import anchors, boxes, regions
from tests.models.test_anchors import iou, objects_of, random_boxes


def suppressed(box, scores, threshold, count):
    """Indices that are left of non-maximum suppression, in a loop."""
    kept = []
    for k in np.argsort(-scores, kind="stable"):
        if len(kept) < count and all(iou(box[k], box[other]) <= threshold for other in kept):
            kept.append(k)
    return kept


@pytest.mark.parametrize("count", [40, 300])
def test_proposals_against_a_loop(count):
    """Of more than there can be, too: what fills up is not valid."""
    random = np.random.default_rng(0)
    places = anchors.of_map((32, 64), 6, 8)
    logits = random.normal(0, 1, [2, len(places)]).astype(np.float32)
    offsets = random.normal(0, 0.3, [2, len(places), 4]).astype(np.float32)
    sizes = np.array([[96, 128], [70, 100]])
    found, valid = regions.propose(places, tf.constant(logits), tf.constant(offsets), tf.constant(sizes), (200, count))
    assert found.shape == (2, min(count, len(places)), 4)
    for k, (height, width) in enumerate(sizes):
        there = anchors.on_image(places, tf.constant(sizes)).numpy()[k]
        best = np.argsort(np.where(there, -logits[k], np.inf), kind="stable")[:200]
        best = best[there[best]]
        box = np.clip(boxes.decode(tf.gather(places, best), offsets[k][best]), 0, [width, height, width, height])
        large = (box[:, 2:] - box[:, :2] >= 1).all(1)
        kept = suppressed(box[large], logits[k][best][large], 0.7, count)
        assert valid.numpy()[k].sum() == len(kept) <= 200
        np.testing.assert_allclose(found.numpy()[k][: len(kept)], box[large][kept], atol=1e-3)


def test_fewer_anchors_than_proposals_and_a_blank_image():
    places = anchors.of_map((64,), 2, 2)
    found, valid = regions.propose(
        places, tf.zeros([2, 12]), tf.zeros([2, 12, 4]), tf.constant([[32, 32], [0, 0]]), (12000, 2000)
    )
    assert found.shape == (2, 12, 4) and not valid[1].numpy().any()
    kept, valid = found[0].numpy(), valid[0].numpy()
    assert 0 < valid.sum() < 12 and not kept[~valid].any() and (kept[valid, 2:] > kept[valid, :2]).all()


def some_regions(count=300):
    """Proposals of which many lie on the two objects, and the objects; the third is difficult."""
    box = np.array([[[20, 20, 80, 80], [100, 30, 160, 110], [30, 120, 90, 180]]], np.float32)
    near = box[0][np.arange(count) % 3] + np.random.default_rng(0).normal(0, 8, [count, 4])
    proposals = np.concatenate([near, random_boxes(count)]).astype(np.float32)[None]
    return tf.constant(proposals), objects_of(box, [[4, 2, 1]], [[False, False, True]])


@pytest.mark.parametrize("count", [8, 32, 256])
def test_a_quarter_of_the_sampled_regions_is_on_objects(count):
    proposals, objects = some_regions()
    valid = tf.range(proposals.shape[1])[None] % 7 > 0
    seeds = tf.constant([[1, 2]], tf.int64)
    chosen, kinds, nearest = (x.numpy()[0] for x in regions.sample(proposals, valid, objects, seeds, count))
    assert len(chosen) == count and (kinds == 1).sum() == count // 4 and (kinds == 0).sum() == count - count // 4
    allowed = np.concatenate([proposals.numpy()[0][valid.numpy()[0]], objects.boxes.numpy()[0, :2]])
    assert {tuple(box) for box in chosen} <= {tuple(box) for box in allowed}
    assert len({tuple(box) for box in chosen}) == count
    for box, kind, near in zip(chosen, kinds, nearest, strict=True):
        overlaps = [iou(box, other) for other in objects.boxes.numpy()[0, :3]]
        if kind == 1:
            assert near == np.argmax(overlaps[:2]) and overlaps[near] >= 0.5
        else:  # not on the difficult one, either
            assert max(overlaps) < 0.5


def test_true_objects_are_among_the_regions_and_what_is_missing_is_marked():
    _, objects = some_regions()
    proposals = tf.constant([[[0.0, 0, 15, 15], [0, 0, 0, 0]]])
    valid = tf.constant([[True, False]])
    chosen, kinds, nearest = regions.sample(proposals, valid, objects, tf.constant([[1, 2]], tf.int64), 64)
    assert kinds.numpy().tolist() == [[1, 1, 0, -1, -1, -1]]  # the difficult one and padding are none
    np.testing.assert_array_equal(chosen[0, 3:], chosen[0, :3])  # regions that are seen, not empty ones
    box, label = objects.of(nearest)
    assert {tuple(b) for b in chosen.numpy()[0, :2]} == {(20, 20, 80, 80), (100, 30, 160, 110)}
    np.testing.assert_array_equal(box[0, :2], chosen[0, :2])
    assert sorted(label.numpy()[0, :2]) == [2, 4]


def test_crops_are_read_where_they_should_be():
    """A map whose value at a cell is the place of its centre, in pixels: bilinear values are the places themselves."""
    y, x = np.meshgrid(16.0 * np.arange(10), 16.0 * np.arange(20), indexing="ij")
    features = tf.constant(np.stack([np.stack([y, x], -1), np.stack([y, x], -1) + 1000]), tf.float32)
    box = np.array([[[32, 16, 129, 113], [0, 0, 320, 160]], [[40.5, 8, 47.5, 21], [300, 150, 320, 160]]], np.float32)
    crops = regions.crop(features, tf.constant(box)).numpy().reshape(2, 2, 7, 7, 2)
    # From the first to the last pixel of 97: every 16.
    np.testing.assert_allclose(crops[0, 0, :, 0, 0], 16 + 16 * np.arange(7), atol=1e-3)
    np.testing.assert_allclose(crops[0, 0, 0, :, 1], 32 + 16 * np.arange(7), atol=1e-3)
    # The whole image: as far as the last cell, the centre of pixel 144 and 304, not beyond, where all would be 0.
    np.testing.assert_allclose(crops[0, 1, :, 3, 0], 24 * np.arange(7), atol=1e-3)
    np.testing.assert_allclose(crops[0, 1, 3, :, 1], 304 / 6 * np.arange(7), atol=1e-3)
    # Between cells, in the second image.
    np.testing.assert_allclose(crops[1, 0, 0, :, 1], 1000 + np.linspace(40.5, 46.5, 7), atol=1e-3)
    np.testing.assert_allclose(crops[1, 0, :, 0, 0], 1000 + np.linspace(8, 20, 7), atol=1e-3)
    np.testing.assert_allclose(crops[1, 1, 6, 6], [1144, 1304], atol=1e-3)


def test_no_gradient_goes_to_the_boxes():
    features, box = tf.random.normal([1, 8, 8, 3]), tf.constant([[[10.0, 20, 70, 90]]])
    with tf.GradientTape() as tape:
        tape.watch([features, box])
        value = tf.reduce_sum(regions.crop(features, box) ** 2)
    to_features, to_box = tape.gradient(value, [features, box])
    assert to_box is None and to_features.numpy().any()


def test_a_map_of_one_cell():
    features = tf.constant([[[[3.0]]]])
    np.testing.assert_array_equal(regions.crop(features, tf.constant([[[0.0, 0, 16, 16]]])), np.full([1, 7, 7, 1], 3))


def test_detections_against_a_loop():
    random = np.random.default_rng(0)
    count, classes = 60, 4
    proposals = random_boxes(count, seed=3)
    logits = random.normal(0, 2, [1, count, classes + 1]).astype(np.float32)
    offsets = random.normal(0, 1, [1, count, classes, 4]).astype(np.float32)
    valid = np.arange(count) < 50
    found = regions.detect(
        tf.constant(proposals[None]),
        tf.constant(valid[None]),
        tf.constant(logits),
        tf.constant(offsets),
        tf.constant([[150, 180]]),
    )
    box, scores, labels = (found[name].numpy()[0] for name in ("boxes", "scores", "classes"))
    odds = np.exp(logits[0])
    probabilities = (odds / odds.sum(1, keepdims=True))[:, :-1]  # the background is the last
    decoded = boxes.decode(proposals[:, None], offsets[0], (0.1, 0.1, 0.2, 0.2)).numpy()
    decoded = np.clip(decoded, 0, [180, 150, 180, 150])
    expected = []
    for c in range(classes):
        usable = np.flatnonzero(valid & (decoded[:, c, 2:] - decoded[:, c, :2] >= 1).all(1))
        kept = usable[suppressed(decoded[usable, c], probabilities[usable, c], 0.3, 100)]
        expected += [(probabilities[k, c], c, *decoded[k, c]) for k in kept]
    expected = np.array(sorted(expected, reverse=True)[:100])
    there = len(expected)
    np.testing.assert_allclose(scores[:there], expected[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(labels[:there], expected[:, 1])
    np.testing.assert_allclose(box[:there], expected[:, 2:], atol=1e-2)
    assert there < 100 and not scores[there:].any() and (labels[there:] == -1).all() and not box[there:].any()
