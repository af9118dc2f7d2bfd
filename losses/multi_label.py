"""Losses of multi-label training: the weighted, adaptive, negative-down-sampled sigmoid loss of ML-Images (released
code; paper section 4), and plain sigmoids to compare with. `losses/base.py` says what a loss is."""

from typing import NamedTuple

import tensorflow as tf

from losses.base import UnweightedLoss


class LossConfig(NamedTuple):
    """See the flags of the same names.

    Attributes:
      mask_thres: a class is positive in a batch if a label reaches this.
      neg_select: share of the all-negative classes that take part in a step.
      label_smoothing: share of a label that is spread evenly over all classes, in [0, 1), see `smooth`.
    """

    mask_thres: float = 0.7
    neg_select: float = 0.1
    label_smoothing: float = 0.0


class Constants(NamedTuple):
    """What the released code does not let choose.

    Attributes:
      pos_weight: multiplies the positive term of the cross-entropy (eta in the paper).
      pos_floor, neg_floor: least weights of a positive and of a selected all-negative class (the released code has
        0.001 for the latter; a port of the paper has 0.01).
    """

    pos_weight: float = 12.0
    pos_floor: float = 0.01
    neg_floor: float = 0.001


class WeightedSigmoidLoss(tf.Module):
    """Sigmoid cross-entropy with a weight per class that follows how long a class has been present or absent.

    A class is *positive* in a batch when any of its labels reaches `mask_thres`, otherwise *all-negative*. Positive
    classes take part in every step, all-negative ones with probability `neg_select`. A class that is positive, or
    all-negative and selected, in many batches one after the other is weighted less and less, so that neither frequent
    classes nor the mass of absent ones dominate.

    The state is float32 (exact up to 2**24 consecutive batches) and belongs in a checkpoint, see `variables_by_name`.

    Attributes:
      pos_count: float32 [class_num], consecutive batches up to the last one in which the class was positive.
      neg_count: float32 [class_num], batches in which it was all-negative and selected since it was last positive.
      positive_share, selected_share: float32 [], shares of the classes that were positive, and all-negative and
        selected, in the last batch.
    """

    terms = ()

    def __init__(self, class_num, config=LossConfig(), seed=1234, constants=Constants(), any_rank=tf.identity):
        """Args:
        class_num: number of classes.
        config, constants: see there.
        seed: of the selection, which is drawn statelessly from it and the step, so that a restart repeats it.
        any_rank: where a batch is spread over ranks, turns bool [class_num] of this rank into that of all, see
          `distributed.any_rank`.
        """
        super().__init__(name="loss")
        self.config = config
        self.constants = constants
        self.seed = seed
        self.any_rank = any_rank
        self.pos_count = tf.Variable(tf.zeros([class_num]), trainable=False, name="pos_count")
        self.neg_count = tf.Variable(tf.zeros([class_num]), trainable=False, name="neg_count")
        self.positive_share = tf.Variable(0.0, trainable=False, name="positive_share")
        self.selected_share = tf.Variable(0.0, trainable=False, name="selected_share")

    def variables_by_name(self):
        """Returns the state that a restart needs: a dictionary from a name in the checkpoint to a variable."""
        return {"loss/pos_count": self.pos_count, "loss/neg_count": self.neg_count}

    def shares(self):
        """Returns by name, as floats, the shares of the classes that were positive and selected in the last batch."""
        return {
            "positive_classes": float(self.positive_share),
            "selected_classes": float(self.selected_share),
        }

    def __call__(self, batch, outputs, weights):
        """Returns the loss of a batch, or of a part of one, float32 [].

        Args:
          batch: its "label" is [batch, class_num], confidences in [0, 1], or -1 where unknown: no loss and no gradient.
          outputs: its "logits" are [batch, class_num], of any float type.
          weights: float32 [class_num], what `count` returned for the whole batch.
        """
        entropies = _class_entropies(batch, outputs, self.constants.pos_weight, self.config.label_smoothing)
        return tf.reduce_sum(weights * entropies)

    def count(self, batch, step):
        """Counts a batch by its "label"; returns the weights of the classes in it, float32 [class_num].

        A batch that is computed in parts is counted once, as a whole. `step`, int64 [], is the number of steps before.
        """
        positive = tf.reduce_any(tf.cast(batch["label"], tf.float32) >= self.config.mask_thres, axis=0)
        positive = self.any_rank(positive)
        # The algorithm is named because the default may differ between devices. (XLA draws other numbers from it.)
        draws = tf.random.stateless_uniform(positive.shape, [self.seed, step], alg="philox")
        selected = tf.logical_and(~positive, draws <= self.config.neg_select)
        pos_count = self.pos_count.assign(tf.where(positive, self.pos_count + 1, 0.0))
        neg_count = self.neg_count.assign(tf.where(positive, 0.0, self.neg_count + tf.cast(selected, tf.float32)))
        self.positive_share.assign(tf.reduce_mean(tf.cast(positive, tf.float32)))
        self.selected_share.assign(tf.reduce_mean(tf.cast(selected, tf.float32)))
        positive_weight = tf.maximum(_log10(10.0 / (0.01 + pos_count)), self.constants.pos_floor)
        # Below 0.01 the weight falls to `neg_floor` at once (released code), not gradually.
        negative_weight = _log10(10.0 / (8.0 + neg_count))
        negative_weight = tf.where(negative_weight > 0.01, negative_weight, self.constants.neg_floor)
        return tf.where(positive, positive_weight, tf.where(selected, negative_weight, 0.0))


class SigmoidLoss(UnweightedLoss):
    """Plain sigmoid cross-entropy: the sum over all classes of the mean over the batch; nothing where labels are -1.

    It is what the weighted loss is compared with (paper section 5).
    """

    def __init__(self, label_smoothing=0.0):
        self.label_smoothing = label_smoothing

    def __call__(self, batch, outputs, weights):
        """Args and result as of `WeightedSigmoidLoss.__call__`."""
        return tf.reduce_sum(weights * _class_entropies(batch, outputs, 1.0, self.label_smoothing))


def smooth(labels, label_smoothing):
    """Returns labels of which a share, `label_smoothing` in [0, 1), is spread evenly over all classes.

    A label y becomes (1 - s) y + s / classes, as in timm's binary cross-entropy; an unknown one, -1, stays.
    """
    smoothed = (1 - label_smoothing) * labels + label_smoothing / labels.shape[-1]
    return tf.where(labels == -1, -1.0, smoothed)


def _class_entropies(batch, outputs, pos_weight, label_smoothing):
    """Sigmoid cross-entropy of each class, mean over the batch, float32 [class_num]; nothing where labels are -1."""
    labels = tf.cast(batch["label"], tf.float32)
    targets = smooth(labels, label_smoothing) if label_smoothing else labels
    logits = tf.cast(outputs["logits"], tf.float32)
    entropies = tf.nn.weighted_cross_entropy_with_logits(targets, logits, pos_weight)
    return tf.reduce_mean(tf.where(labels == -1, 0.0, entropies), axis=0)


def _log10(x):
    return tf.math.log(x) / 2.302585092994046
