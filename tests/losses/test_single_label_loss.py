"""Softmax cross-entropy against Keras's own."""

import numpy as np
import pytest
import tensorflow as tf

from losses.single_label import SoftmaxLoss

CLASSES = 60


def value_of(loss, labels, logits):
    batch = {"label": tf.convert_to_tensor(labels)}
    return loss(batch, {"logits": logits}, loss.count(batch, 0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_is_that_of_keras(smoothing):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (8, CLASSES)).astype(np.float32)
    labels = random.integers(0, CLASSES, 8)
    loss = SoftmaxLoss(smoothing)
    expected = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    value = value_of(loss, labels, logits)
    np.testing.assert_allclose(value, expected(np.eye(CLASSES)[labels], logits), rtol=1e-5)
    # An image without a label counts for nothing, not even in the mean.
    some = np.where(np.arange(8) < 3, -1, labels)
    value = value_of(loss, some, logits)
    np.testing.assert_allclose(value, expected(np.eye(CLASSES)[labels[3:]], logits[3:]), rtol=1e-5)
    assert float(value_of(loss, np.full(8, -1), logits)) == 0
