"""Losses of multi-label training that keep no state: functions of labels and logits, and the loss that each makes.

A function takes labels, float32 [batch, class_num], confidences in [0, 1] or -1 where unknown (no loss and no
gradient), and logits, float32 of the same shape. It returns float32 [class_num], of each class the mean over the batch,
or [], where it is no sum over classes. Confidences between 0 and 1 weigh the positive term, and what is left of them
the negative one. To add a loss is to add a function here, and its name to `FUNCTIONS`. z is a logit, p its sigmoid.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from losses.base import UnweightedLoss

# Of `class_balanced`: the nearer to 1, the more do rare classes weigh (Cui et al. 2019, section 5.1).
BETA = 0.9999


class LossConfig(NamedTuple):
    """See the flags of the same names. What is not about smoothing is of `losses.weighted` alone.

    Attributes:
      mask_thres: a class is positive in a batch if a label reaches this.
      neg_select: share of the all-negative classes that take part in a step.
      label_smoothing: share of a label that is spread evenly over all classes, in [0, 1), see `smooth`.
      pos_weight: multiplies the positive term of the cross-entropy (eta in the paper).
      adaptive_weights: whether classes weigh less, the longer they are present or absent.
      pos_floor, neg_floor: least weights of a positive and of a selected all-negative class, where weights adapt (the
        released code has 0.001 for the latter; a port of the paper has 0.01).
      presence: in whose images a class is looked for: "global", in those of all ranks; "rank", of each rank by itself;
        "part", of each part of a rank's batch by itself.
    """

    mask_thres: float = 0.7
    neg_select: float = 0.1
    label_smoothing: float = 0.0
    pos_weight: float = 12.0
    adaptive_weights: bool = True
    pos_floor: float = 0.01
    neg_floor: float = 0.001
    presence: str = "global"


def sigmoid(labels, logits, pos_weight=1.0):
    """Sigmoid cross-entropy: -log p, times `pos_weight`, and -log(1 - p). It is what the paper compares with."""
    return class_means(labels, tf.nn.weighted_cross_entropy_with_logits(labels, logits, pos_weight))


def focal(labels, logits, gamma=2.0):
    """-(1 - p)^gamma log p and -p^gamma log(1 - p): elements that are right already count little (Lin et al. 2017).

    Without the paper's alpha, a constant factor of positives.
    """
    positive = tf.sigmoid(-logits) ** gamma * tf.nn.softplus(-logits)
    negative = tf.sigmoid(logits) ** gamma * tf.nn.softplus(logits)
    return class_means(labels, labels * positive + (1 - labels) * negative)


def asymmetric(labels, logits, gamma_neg=4.0, gamma_pos=1.0, margin=0.05):
    """-(1 - p)^gamma_pos log p and -q^gamma_neg log(1 - q), q = max(p - margin, 0): easy negatives count nothing.

    Ridnik et al. 2021, "Asymmetric Loss for Multi-Label Classification", with the gradient of the whole formula.
    """
    positive = tf.sigmoid(-logits) ** gamma_pos * tf.nn.softplus(-logits)
    shifted = tf.nn.relu(tf.sigmoid(logits) - margin)
    negative = -(shifted**gamma_neg) * tf.math.log1p(-shifted)
    return class_means(labels, labels * positive + (1 - labels) * negative)


def two_way(labels, logits, positive_temperature=4.0, negative_temperature=1.0):
    """softplus(T_n LSE_neg(z / T_n) + T_p LSE_pos(-z / T_p)), over the classes of a sample and over a class's samples.

    The weakest positive is to be above the strongest negative: in each sample that has a positive, and in each class
    that has one; the means of both are added (Kobayashi 2023, "Two-Way Multi-Label Loss"). A log-sum-exp weighs its
    elements by their labels, positives by y and negatives by 1 - y. A sample or class without a positive takes no part.
    It is over the samples that are computed at once: a part of a batch, and of one rank, as batch normalisation is.

    Returns float32 [].
    """
    known = tf.cast(labels != -1, tf.float32)
    total = tf.zeros([])
    for axis in (0, 1):
        strongest, negatives = _log_sum_exp((1 - labels) * known, logits / negative_temperature, axis)
        weakest, positives = _log_sum_exp(labels * known, -logits / positive_temperature, axis)
        losses = tf.nn.softplus(negative_temperature * strongest + positive_temperature * weakest)
        # Where there are no negatives, their log-sum-exp is -infinity, and the softplus 0.
        losses = tf.where(tf.logical_and(positives, negatives), losses, 0.0)
        total += tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(tf.cast(positives, tf.float32)))
    return total


def _log_sum_exp(weights, x, axis):
    """Returns log(sum(weights * exp(x))) along `axis`, and where any weight is above 0; elsewhere it is 0."""
    counts = weights > 0
    some = tf.reduce_any(counts, axis)
    largest = tf.reduce_max(tf.where(counts, x, x.dtype.min), axis, keepdims=True)
    largest = tf.stop_gradient(tf.where(tf.expand_dims(some, axis), largest, 0.0))
    # What does not count is left out before exp, where it could overflow and make its gradient NaN.
    terms = weights * tf.exp(tf.where(counts, x - largest, 0.0))
    return tf.squeeze(largest, axis) + tf.math.log(tf.where(some, tf.reduce_sum(terms, axis), 1.0)), some


# By their names at --loss. class_balanced differs in the weights of its classes, see `balanced_weights`.
FUNCTIONS = {
    "sigmoid": sigmoid,
    "focal": focal,
    "asymmetric": asymmetric,
    "two_way": two_way,
    "class_balanced": sigmoid,
}


class MultiLabelLoss(UnweightedLoss):
    """The loss that one of `FUNCTIONS` makes: of most the sum over all classes of the mean over the batch."""

    def __init__(self, function=sigmoid, config=LossConfig(), weights=1.0):
        """Args:
        function: of labels and logits.
        config: a `LossConfig`, of which `label_smoothing` matters.
        weights: of the classes, floats [class_num] or one for all.
        """
        self.function = function
        self.config = config
        self.weights = np.asarray(weights, np.float32)

    def count(self, batch, step):
        """Returns the weights of the classes, which stay the same."""
        return tf.constant(self.weights)

    def __call__(self, batch, outputs, weights):
        """Returns the loss of a batch, or of a part of one, float32 [].

        Args:
          batch: its "label" is [batch, class_num], confidences in [0, 1], or -1 where unknown: no loss and no gradient.
          outputs: its "logits" are [batch, class_num], of any float type.
          weights: what `count` returned.
        """
        logits = tf.cast(outputs["logits"], tf.float32)
        return tf.reduce_sum(weights * self.function(smooth(batch["label"], self.config.label_smoothing), logits))


def balanced_weights(counts, beta=BETA):
    """Returns the weights of classes by how often each occurs, float32 [class_num], with a mean of 1.

    They are as 1 / the effective number of samples, (1 - beta^n) / (1 - beta) (Cui et al. 2019, "Class-Balanced Loss
    Based on Effective Number of Samples").

    Args:
      counts: floats [class_num], the sums of the training records' labels. Less than one counts as one.
      beta: in (0, 1).
    """
    # 1 - beta^n without the loss of digits.
    weights = -1 / np.expm1(np.maximum(np.asarray(counts, np.float64), 1) * np.log(beta))
    return np.float32(weights / weights.mean())


def smooth(labels, label_smoothing):
    """Returns labels as float32 of which a share, `label_smoothing` in [0, 1), is spread evenly over all classes.

    A label y becomes (1 - s) y + s / classes, as in timm's binary cross-entropy; an unknown one, -1, stays.
    """
    labels = tf.cast(labels, tf.float32)
    if not label_smoothing:
        return labels
    smoothed = (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]
    return tf.where(labels == -1, -1.0, smoothed)


def class_means(labels, losses):
    """Returns the mean over the batch of losses [batch, class_num], float32 [class_num]; 0 where labels are -1."""
    return tf.reduce_mean(tf.where(labels == -1, 0.0, losses), axis=0)
