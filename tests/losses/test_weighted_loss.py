"""The loss against an independent float64 NumPy implementation of DESIGN section 5, over hundreds of steps."""

import numpy as np
import pytest
import tensorflow as tf

from losses.multi_label import LossConfig, smooth
from losses.weighted import Spread, WeightedSigmoidLoss

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


def value_of(loss, labels, logits, step=0):
    """Counts a batch and returns its loss, as the training step does."""
    batch = {"label": tf.convert_to_tensor(labels)}
    return loss(batch, {"logits": logits}, loss.count(batch, step))


def drawn_in(loss, before):
    """Which all-negative classes the loss selected in its last step, seen from outside through its counters."""
    return (loss.neg_count.numpy() - before) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_values_counters_and_gradients_over_300_steps(compiled):
    loss, reference = WeightedSigmoidLoss(CLASSES, LossConfig(neg_select=0.3)), Reference()

    def value_and_gradient(labels, logits, step):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = value_of(loss, labels, logits, step)
        return value, tape.gradient(value, logits)

    if compiled:
        value_and_gradient = tf.function(value_and_gradient)
    for step, (labels, logits) in enumerate(batches(300)):
        before = loss.neg_count.numpy()
        value, gradient = value_and_gradient(tf.constant(labels), tf.constant(logits), tf.constant(step))
        expected, expected_gradient = reference.step(labels, logits, drawn_in(loss, before))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * abs(expected_gradient).max())
        np.testing.assert_array_equal(loss.pos_count, reference.pos_count)
        np.testing.assert_array_equal(loss.neg_count, reference.neg_count)
    assert reference.pos_count.max() > 50 and reference.neg_count.max() > 50  # the run went through the floors


@pytest.mark.parametrize("neg_select", [0.0, 0.1, 1.0])
def test_share_of_selected_classes(neg_select):
    loss = WeightedSigmoidLoss(1000, LossConfig(neg_select=neg_select))
    shares = []
    for step in range(50):
        value_of(loss, tf.zeros([2, 1000]), tf.zeros([2, 1000]), step)
        shares.append(float(loss.selected_share))
    # 50,000 draws: 5 standard deviations of a share of 0.1 are 0.0067.
    assert np.mean(shares) == pytest.approx(neg_select, abs=0.007)
    assert float(loss.positive_share) == 0


def test_selection_is_fresh_in_each_step_and_repeats_after_a_restart():
    labels, logits = tf.zeros([2, 500]), tf.random.stateless_normal([2, 500], [1, 2])
    loss = WeightedSigmoidLoss(500)
    selections = []
    for step in range(6):
        before = loss.neg_count.numpy()
        value_of(loss, labels, logits, step)
        selections.append(drawn_in(loss, before))
        if step == 2:
            saved = {name: variable.numpy() for name, variable in loss.variables_by_name().items()}
    assert all((selections[0] != selection).any() for selection in selections[1:])
    again = WeightedSigmoidLoss(500)
    for name, variable in again.variables_by_name().items():
        variable.assign(saved[name])
    for step, expected in enumerate(selections[3:], start=3):
        before = again.neg_count.numpy()
        value_of(again, labels, logits, step)
        np.testing.assert_array_equal(drawn_in(again, before), expected)


def test_float32_whatever_the_precision_of_the_logits():
    for labels, logits in batches(1):
        for dtype in (tf.float16, tf.bfloat16):
            narrow = tf.cast(logits, dtype)
            value = value_of(WeightedSigmoidLoss(CLASSES), labels, narrow)
            assert value.dtype == tf.float32
            expected = value_of(WeightedSigmoidLoss(CLASSES), labels, tf.cast(narrow, tf.float32))
            np.testing.assert_allclose(value, expected)


def test_extreme_logits_stay_finite_and_unknown_labels_give_no_gradient():
    labels = tf.constant([[1.0, 0.0, -1.0]])
    logits = tf.constant([[-1e30, 1e30, 1e30]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = value_of(WeightedSigmoidLoss(3, LossConfig(neg_select=1.0)), labels, logits)
    gradient = tape.gradient(value, logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert gradient[0, 2] == 0 and gradient[0, 0] < 0 < gradient[0, 1]


def test_floors_are_arguments():
    loss = WeightedSigmoidLoss(2, LossConfig(neg_select=1.0, pos_floor=0.5, neg_floor=0.25))
    loss.pos_count.assign([1000, 0])
    loss.neg_count.assign([0, 1000])
    value = value_of(loss, tf.constant([[1.0, 0.0]]), tf.zeros([1, 2]))
    np.testing.assert_allclose(value, 0.5 * 12 * np.log(2) + 0.25 * np.log(2), rtol=1e-6)


def test_label_smoothing_changes_the_cross_entropy_alone():
    """Not which classes count as positive nor how much they weigh."""
    for labels, logits in batches(1):
        plain, smoothed = (WeightedSigmoidLoss(CLASSES, LossConfig(label_smoothing=s)) for s in (0.0, 0.1))
        weights = [loss.count({"label": labels}, 0) for loss in (plain, smoothed)]
        np.testing.assert_array_equal(*weights)
        expected = plain({"label": smooth(labels, 0.1)}, {"logits": logits}, weights[0])
        np.testing.assert_allclose(smoothed({"label": labels}, {"logits": logits}, weights[0]), expected, rtol=1e-6)
        assert abs(expected - plain({"label": labels}, {"logits": logits}, weights[0])) > 0.1


def test_weights_that_do_not_adapt():
    loss = WeightedSigmoidLoss(CLASSES, LossConfig(neg_select=0.5, adaptive_weights=False))
    for step, (labels, _) in enumerate(batches(30)):
        before = loss.neg_count.numpy()
        weights = loss.count({"label": tf.constant(labels)}, step)
        positive = labels.max(axis=0) >= np.float32(0.7)
        expected = np.where(positive, 1, np.where(drawn_in(loss, before), 0.1, 0))
        np.testing.assert_array_equal(weights, np.float32(expected))


@pytest.mark.parametrize("presence", ["rank", "part"])
def test_one_rank_and_one_part_are_all_there_is(presence):
    """The published trajectory, selection and all."""
    whole, own = (WeightedSigmoidLoss(CLASSES, LossConfig(presence=name)) for name in ("global", presence))
    assert own.pos_count.shape == [1, CLASSES] and own.by_part == (presence == "part")
    for step, (labels, _) in enumerate(batches(40)):
        weights = [loss.count({"label": tf.constant(labels)}, step) for loss in (whole, own)]
        np.testing.assert_array_equal(weights[0], weights[1][0] if own.by_part else weights[1])
        for name, counter in whole.variables_by_name().items():
            np.testing.assert_array_equal(counter, own.variables_by_name()[name][0])
        assert whole.shares() == own.shares()


@pytest.mark.parametrize("compiled", [False, True])
def test_parts_are_batches_one_after_the_other(compiled):
    parts = 4
    old = WeightedSigmoidLoss(CLASSES, LossConfig(neg_select=0.3))
    loss = WeightedSigmoidLoss(CLASSES, LossConfig(neg_select=0.3, presence="part"), spread=Spread(parts=parts))
    count = tf.function(loss.count, autograph=False) if compiled else loss.count
    for step, (labels, _) in enumerate(batches(30)):
        weights = count({"label": tf.constant(labels)}, tf.constant(step, tf.int64)).numpy()
        assert weights.shape == (parts, CLASSES)
        shares = []
        for k, part in enumerate(labels.reshape(parts, -1, CLASSES)):
            number = tf.constant(step * parts + k, tf.int64)
            np.testing.assert_allclose(weights[k], old.count({"label": tf.constant(part)}, number), rtol=1e-6)
            shares.append(list(old.shares().values()))
        np.testing.assert_array_equal(loss.pos_count[0], old.pos_count)
        np.testing.assert_array_equal(loss.neg_count[0], old.neg_count)
        np.testing.assert_allclose(list(loss.shares().values()), np.mean(shares, axis=0), rtol=1e-5)


def test_each_rank_counts_by_itself_and_keeps_what_all_count():
    """Two ranks, each told of the other's labels, are two runs of one rank, but for the selection."""
    config = LossConfig(neg_select=1.0)
    alone = [WeightedSigmoidLoss(CLASSES, config) for _ in range(2)]
    for step, (labels, _) in enumerate(batches(30)):
        halves = labels.reshape(2, -1, CLASSES)
        if step == 0:
            losses = [
                WeightedSigmoidLoss(CLASSES, config._replace(presence="rank"), spread=Spread(k, 2)) for k in (0, 1)
            ]
        positive = np.any(halves >= np.float32(0.7), axis=1)
        for rank, loss in enumerate(losses):
            loss.spread = loss.spread._replace(gather=lambda own, positive=positive: tf.constant(positive[:, None]))
            batch = {"label": tf.constant(halves[rank])}
            np.testing.assert_allclose(loss.count(batch, step), alone[rank].count(batch, step), rtol=1e-6)
        for name, counter in losses[0].variables_by_name().items():
            np.testing.assert_array_equal(counter, losses[1].variables_by_name()[name])
            np.testing.assert_array_equal(counter, np.stack([one.variables_by_name()[name] for one in alone]))


def test_each_rank_selects_by_itself():
    gather = lambda own: tf.repeat(own[None], 2, axis=0)  # noqa: E731
    loss = WeightedSigmoidLoss(500, LossConfig(neg_select=0.5, presence="rank"), spread=Spread(0, 2, gather=gather))
    loss.count({"label": tf.zeros([2, 500])}, 0)
    chosen = loss.neg_count.numpy()
    assert np.mean(chosen[0] == chosen[1]) == pytest.approx(0.5, abs=0.12)  # five standard deviations
