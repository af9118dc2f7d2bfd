"""losses/segmentation.py against a loop over pixels in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from losses.segmentation import SegmentationLoss


@pytest.fixture(scope="module")
def example():
    generator = np.random.default_rng(0)
    mask = generator.integers(-1, 3, (2, 5, 7)).astype(np.int32)
    mask[1, :3] = -1
    return mask, generator.normal(size=(2, 5, 7, 3)).astype(np.float32)


def value(loss, mask, logits):
    batch = {"mask": tf.constant(mask)}
    return float(loss(batch, {"logits": tf.constant(logits)}, loss.count(batch, 0)))


def pixels(mask, logits):
    """(image, class, cross-entropy) of each pixel that is not void."""
    for place in zip(*np.nonzero(mask >= 0), strict=True):
        z = logits[place].astype(np.float64)
        yield place[0], mask[place], np.log(np.exp(z).sum()) - z[mask[place]]


def test_mean_over_pixels_of_all_images(example):
    expected = np.mean([error for _, _, error in pixels(*example)])
    np.testing.assert_allclose(value(SegmentationLoss(), *example), expected, rtol=1e-6)


def test_class_weights(example):
    weights = np.array([1.0, 3.0, 0.5])
    total = [(weights[label] * error, weights[label]) for _, label, error in pixels(*example)]
    expected = np.divide(*np.sum(total, axis=0))
    np.testing.assert_allclose(value(SegmentationLoss(weights), *example), expected, rtol=1e-6)


def test_hard_pixels(example):
    """Half of each image's pixels: those of the highest loss, and no more than so many."""
    kept = []
    for image in range(2):
        errors = sorted((error for k, _, error in pixels(*example) if k == image), reverse=True)
        kept += errors[: len(errors) // 2]
    count = (example[0] >= 0).sum()
    np.testing.assert_allclose(value(SegmentationLoss(hard_share=0.5), *example), sum(kept) / (count / 2), rtol=1e-6)


def test_two_processes_have_the_mean_of_all_pixels(example):
    """Each sees an image, of which one has fewer pixels that count: their losses' mean is that of the batch of both."""
    mask, logits = example
    share = np.mean([(one >= 0).sum() for one in mask])
    losses = [SegmentationLoss(average=lambda _: tf.constant(share, tf.float32)) for _ in range(2)]
    found = [value(loss, mask[k : k + 1], logits[k : k + 1]) for k, loss in enumerate(losses)]
    np.testing.assert_allclose(np.mean(found), value(SegmentationLoss(), mask, logits), rtol=1e-6)


@pytest.mark.parametrize("hard_share", [1.0, 0.5])
def test_void_pixels_and_a_blank_image_have_no_gradient(hard_share):
    logits = tf.Variable(tf.fill([1, 2, 2, 3], float("nan")))
    logits[0, 0, 0].assign([0.0, 1.0, 2.0])
    batch = {"mask": tf.constant([[[1, -1], [-1, -1]]])}
    loss = SegmentationLoss(hard_share=hard_share)
    with tf.GradientTape() as tape:
        error = loss(batch, {"logits": logits}, loss.count(batch, 0))
    gradient = tape.gradient(error, logits).numpy()
    assert np.isfinite(error.numpy())
    assert np.isfinite(gradient[0, 0, 0]).all() and gradient[0, 0, 0].any()
    blank = {"mask": tf.fill([1, 2, 2], -1)}
    assert loss(blank, {"logits": tf.zeros([1, 2, 2, 3])}, loss.count(blank, 0)) == 0
