"""Losses without a state, against their formulas in float64 NumPy and against Keras; and what all have in common."""

import keras
import numpy as np
import pytest
from scipy.special import logsumexp
import tensorflow as tf

from losses.multi_label import FUNCTIONS, LossConfig, MultiLabelLoss, balanced_weights, smooth
from tests.losses.test_weighted_loss import CLASSES, batches, value_of

COUNTS = np.geomspace(1, 1e6, CLASSES)


def loss_of(name, **config):
    weights = balanced_weights(COUNTS) if name == "class_balanced" else 1.0
    return MultiLabelLoss(FUNCTIONS[name], LossConfig(**config), weights)


def elements(name, y, p):
    """The loss of each element, by its formula."""
    if name == "focal":
        return -y * (1 - p) ** 2 * np.log(p) - (1 - y) * p**2 * np.log(1 - p)
    if name == "asymmetric":
        q = np.maximum(p - 0.05, 0)
        return -y * (1 - p) * np.log(p) - (1 - y) * q**4 * np.log(1 - q)
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def two_way(y, z):
    """Its formula, of one sample or class after the other."""
    total = 0
    for samples, logits in ((y, z), (y.T, z.T)):
        losses = []
        for labels, row in zip(samples, logits, strict=True):
            labels, row = labels[labels != -1], row[labels != -1]
            if labels.max(initial=0) > 0:
                strongest = (1 - labels) @ np.exp(row)
                weakest = (labels @ np.exp(-row / 4)) ** 4
                losses.append(np.log1p(strongest * weakest))
        total += np.mean(losses) if losses else 0
    return total


def expected(name, labels, logits):
    y, z = labels.astype(np.float64), logits.astype(np.float64)
    if name == "two_way":
        return two_way(y, z)
    means = (elements(name, y, 1 / (1 + np.exp(-z))) * (y != -1)).mean(axis=0)
    if name == "class_balanced":
        weights = (1 - 0.9999) / (1 - 0.9999**COUNTS)
        return means @ (weights / weights.mean())
    return means.sum()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_formula(name):
    loss = loss_of(name)
    assert loss.shares() == {} and loss.variables_by_name() == {} and not loss.by_part
    for labels, logits in batches(3):
        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = value_of(loss, labels, x)
        assert value.shape == [] and value.dtype == tf.float32
        np.testing.assert_allclose(value, expected(name, labels, logits), rtol=1e-5)
        gradient = tape.gradient(value, x).numpy()
        assert (gradient[labels == -1] == 0).all()
        # The slope of the formula in random directions.
        for seed in range(3):
            way = np.random.default_rng(seed).normal(size=logits.shape)
            ahead, behind = (expected(name, labels, logits + step * way) for step in (1e-5, -1e-5))
            assert np.sum(gradient * way) == pytest.approx((ahead - behind) / 2e-5, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_computed_in_float32_whatever_the_precision_of_the_logits(name, dtype):
    for labels, logits in batches(1):
        narrow = tf.cast(logits, dtype)
        value = value_of(loss_of(name), labels, narrow)
        np.testing.assert_array_equal(value, value_of(loss_of(name), labels, tf.cast(narrow, tf.float32)))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "label",
    [
        [[1, 0, -1, 0], [0, 1, -1, 0.3], [1, 0, -1, 1]],
        [[1, 1, 1, 1]] * 3,
        [[0, 0, 0, 0]] * 3,
        [[-1, -1, -1, -1]] * 3,
        [[0, 0, 0, 0], [1, 1, 1, 1], [-1, -1, -1, -1]],
    ],
)
@pytest.mark.parametrize("largest", [65504, 0])
def test_extreme_logits_of_float16_and_batches_without_positives_negatives_or_labels(name, label, largest):
    loss = MultiLabelLoss(FUNCTIONS[name])
    for signs in (1, -1, [1, -1, 1, -1]):
        logits = tf.constant(largest * np.ones([3, 4]) * signs, tf.float16)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = value_of(loss, np.float32(label), logits)
        gradient = tape.gradient(value, logits).numpy()
        assert np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()
        assert (gradient[np.float32(label) == -1] == 0).all()


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"two_way"}))
def test_mean_over_parts_is_that_of_the_whole(name):
    for labels, logits in batches(2):
        loss = loss_of(name)
        parts = zip(np.split(labels, 4), np.split(logits, 4), strict=True)
        by_part = [value_of(loss, part, x) for part, x in parts]
        np.testing.assert_allclose(np.mean(by_part), value_of(loss, labels, logits), rtol=1e-5)


def test_focal_is_that_of_keras():
    theirs = keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True, reduction=None)
    for labels, logits in batches(2):
        labels = np.float32(labels > 0.5)
        mean = np.mean(theirs(labels[..., None], logits[..., None]), axis=0)
        np.testing.assert_allclose(value_of(loss_of("focal"), labels, logits), mean.sum(), rtol=1e-4)


def test_two_way_of_whole_labels_is_the_published_formula():
    """Over the elements that are positive or negative, with the log-sum-exp of SciPy."""
    labels = np.float32([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    logits = np.random.default_rng(0).normal(0, 3, labels.shape).astype(np.float32)
    total = 0
    for y, z in ((labels, logits), (labels.T, logits.T)):
        some = [(one[own == 0], one[own == 1]) for own, one in zip(y, z, strict=True) if own.any()]
        total += np.mean([np.logaddexp(0, logsumexp(no) + 4 * logsumexp(-yes / 4)) for no, yes in some])
    np.testing.assert_allclose(value_of(loss_of("two_way"), labels, logits), total, rtol=1e-5)


def test_rare_classes_weigh_more():
    weights = balanced_weights([0, 1, 10, 1e4, 1e7, 0.3])
    assert weights.dtype == np.float32 and weights.mean() == pytest.approx(1)
    assert weights[0] == weights[1] == weights[5] > weights[2] > weights[3] > weights[4] > 0
    # 1 / n where n is small against 1 / (1 - beta), and at last the same for all.
    assert weights[1] / weights[2] == pytest.approx(10, rel=1e-3)
    assert weights[1] / weights[4] == pytest.approx(1e4, rel=1e-4)
    np.testing.assert_allclose(balanced_weights([5, 5, 5]), 1)


def test_label_smoothing_spreads_known_labels_alone():
    labels = tf.constant([[1.0, 0.0, -1.0, 0.5]])
    np.testing.assert_allclose(smooth(labels, 0.2), [[0.85, 0.05, -1, 0.45]], rtol=1e-6)
    for name in FUNCTIONS:
        for labels, logits in batches(1):
            smoothed = smooth(tf.constant(labels), 0.1).numpy()
            value = value_of(loss_of(name, label_smoothing=0.1), labels, logits)
            np.testing.assert_allclose(value, expected(name, smoothed, logits), rtol=1e-5)
