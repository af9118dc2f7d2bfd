"""The loss against an independent float64 NumPy implementation of DESIGN section 5, over hundreds of steps."""

import numpy as np
import pytest
import tensorflow as tf

from losses.multi_label import SigmoidLoss, SoftmaxLoss, WeightedSigmoidLoss

CLASSES = 60


class Reference:
    """The loss as loops over classes, in float64; it is told which classes were drawn."""

    def __init__(self, mask_thres=0.7, pos_floor=0.01, neg_floor=0.001, eta=12.0):
        self.mask_thres, self.pos_floor, self.neg_floor, self.eta = mask_thres, pos_floor, neg_floor, eta
        self.pos_count = np.zeros(CLASSES)
        self.neg_count = np.zeros(CLASSES)

    def step(self, labels, logits, drawn):
        """Returns the loss and its gradient with respect to the logits."""
        labels, logits = labels.astype(np.float64), logits.astype(np.float64)
        weights = np.zeros(CLASSES)
        for j in range(CLASSES):
            if labels[:, j].max() >= np.float32(self.mask_thres):
                self.pos_count[j] += 1
                self.neg_count[j] = 0
                weights[j] = max(self.pos_floor, np.log10(10 / (0.01 + self.pos_count[j])))
            else:
                self.pos_count[j] = 0
                if drawn[j]:
                    self.neg_count[j] += 1
                    weight = np.log10(10 / (8 + self.neg_count[j]))
                    weights[j] = weight if weight > 0.01 else self.neg_floor
        batch = len(labels)
        softplus = np.log1p(np.exp(-np.abs(logits))) + np.maximum(-logits, 0)
        entropy = (1 - labels) * logits + (1 + (self.eta - 1) * labels) * softplus
        slope = (1 - labels) - (1 + (self.eta - 1) * labels) / (1 + np.exp(logits))
        known = labels != -1
        return (entropy * known).mean(0) @ weights, weights * slope * known / batch


def batches(steps, seed=0, batch=16):
    """Labels with frequent, rare, absent, weak (below the threshold) and unknown ones; float32 logits."""
    random = np.random.default_rng(seed)
    frequency = np.linspace(0, 0.3, CLASSES) ** 2 * 10
    for _ in range(steps):
        labels = (random.random((batch, CLASSES)) < frequency).astype(np.float32)
        labels *= random.choice(np.float32([1, 0.9, 0.7, 0.69, 0.3]), labels.shape)
        labels[random.random(labels.shape) < 0.02] = -1
        yield labels, random.normal(0, 4, labels.shape).astype(np.float32)


def drawn_in(loss, before):
    """Which all-negative classes the loss selected in its last step, seen from outside through its counters."""
    return (loss.neg_count.numpy() - before) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_values_counters_and_gradients_over_300_steps(compiled):
    loss, reference = WeightedSigmoidLoss(CLASSES, neg_select=0.3), Reference()

    def value_and_gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    if compiled:
        value_and_gradient = tf.function(value_and_gradient)
    for labels, logits in batches(300):
        before = loss.neg_count.numpy()
        value, gradient = value_and_gradient(tf.constant(labels), tf.constant(logits))
        expected, expected_gradient = reference.step(labels, logits, drawn_in(loss, before))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * abs(expected_gradient).max())
        np.testing.assert_array_equal(loss.pos_count, reference.pos_count)
        np.testing.assert_array_equal(loss.neg_count, reference.neg_count)
    assert reference.pos_count.max() > 50 and reference.neg_count.max() > 50  # the run went through the floors


@pytest.mark.parametrize("neg_select", [0.0, 0.1, 1.0])
def test_share_of_selected_classes(neg_select):
    loss = WeightedSigmoidLoss(1000, neg_select=neg_select)
    shares = []
    for _ in range(50):
        loss(tf.zeros([2, 1000]), tf.zeros([2, 1000]))
        shares.append(float(loss.selected_share))
    # 50,000 draws: 5 standard deviations of a share of 0.1 are 0.0067.
    assert np.mean(shares) == pytest.approx(neg_select, abs=0.007)
    assert float(loss.positive_share) == 0


def test_selection_is_fresh_in_each_step_and_repeats_after_a_restart():
    labels, logits = tf.zeros([2, 500]), tf.random.stateless_normal([2, 500], [1, 2])
    loss = WeightedSigmoidLoss(500)
    selections = []
    for _ in range(6):
        before = loss.neg_count.numpy()
        loss(labels, logits)
        selections.append(drawn_in(loss, before))
        if loss.step == 3:
            saved = {name: variable.numpy() for name, variable in loss.variables_by_name().items()}
    assert all((selections[0] != selection).any() for selection in selections[1:])
    again = WeightedSigmoidLoss(500)
    for name, variable in again.variables_by_name().items():
        variable.assign(saved[name])
    for expected in selections[3:]:
        before = again.neg_count.numpy()
        again(labels, logits)
        np.testing.assert_array_equal(drawn_in(again, before), expected)


def test_float32_whatever_the_precision_of_the_logits():
    for labels, logits in batches(1):
        for dtype in (tf.float16, tf.bfloat16):
            narrow = tf.cast(logits, dtype)
            value = WeightedSigmoidLoss(CLASSES)(labels, narrow)
            assert value.dtype == tf.float32
            np.testing.assert_allclose(value, WeightedSigmoidLoss(CLASSES)(labels, tf.cast(narrow, tf.float32)))


def test_extreme_logits_stay_finite_and_unknown_labels_give_no_gradient():
    labels = tf.constant([[1.0, 0.0, -1.0]])
    logits = tf.constant([[-1e30, 1e30, 1e30]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = WeightedSigmoidLoss(3, neg_select=1.0)(labels, logits)
    gradient = tape.gradient(value, logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert gradient[0, 2] == 0 and gradient[0, 0] < 0 < gradient[0, 1]


def test_floors_are_arguments():
    loss = WeightedSigmoidLoss(2, neg_select=1.0, pos_floor=0.5, neg_floor=0.25)
    loss.pos_count.assign([1000, 0])
    loss.neg_count.assign([0, 1000])
    value = loss(tf.constant([[1.0, 0.0]]), tf.zeros([1, 2]))
    np.testing.assert_allclose(value, 0.5 * 12 * np.log(2) + 0.25 * np.log(2), rtol=1e-6)


def test_plain_sigmoids_are_those_of_numpy():
    loss = SigmoidLoss()
    for k, (labels, logits) in enumerate(batches(3)):
        x, y = logits.astype(np.float64), labels.astype(np.float64)
        probability = 1 / (1 + np.exp(-x))
        entropy = -(y * np.log(probability) + (1 - y) * np.log(1 - probability))
        value = loss.mean_entropy(labels, logits, loss.count(labels))
        np.testing.assert_allclose(value, (entropy * (y != -1)).mean(0).sum(), rtol=1e-5)
        assert int(loss.step) == k + 1
    assert loss.shares() == {} and list(loss.variables_by_name()) == ["loss/step"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_is_that_of_keras(smoothing):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (8, CLASSES)).astype(np.float32)
    labels = random.integers(0, CLASSES, 8)
    loss = SoftmaxLoss(smoothing)
    expected = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    value = loss.mean_entropy(labels, logits, loss.count(labels))
    np.testing.assert_allclose(value, expected(np.eye(CLASSES)[labels], logits), rtol=1e-5)
    # An image without a label counts for nothing, not even in the mean.
    some = np.where(np.arange(8) < 3, -1, labels)
    value = loss.mean_entropy(some, logits, loss.count(some))
    np.testing.assert_allclose(value, expected(np.eye(CLASSES)[labels[3:]], logits[3:]), rtol=1e-5)
    assert float(loss.mean_entropy(np.full(8, -1), logits, 1.0)) == 0
