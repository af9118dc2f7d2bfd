"""Losses: the weighted, adaptive, negative-down-sampled sigmoid loss of ML-Images (released code; paper section 4), and
plain ones of sigmoids and of a softmax to compare with and to fine-tune with.

Each has `count(labels)`, which counts a batch as a whole and returns the weights of its classes, and
`mean_entropy(labels, logits, weights)`, the loss of the batch or of a part of it; `step`, the batches counted;
`variables_by_name()`, the state that a checkpoint needs; `shares()`, what is worth a line of progress.
"""

import tensorflow as tf


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
      step: int64 [], batches seen. The selection is drawn statelessly from (`seed`, step), so a restart repeats it.
      positive_share, selected_share: float32 [], shares of the classes that were positive, and all-negative and
        selected, in the last batch.
    """

    def __init__(
        self,
        class_num,
        mask_thres=0.7,
        neg_select=0.1,
        pos_weight=12.0,
        pos_floor=0.01,
        neg_floor=0.001,
        seed=1234,
        any_rank=tf.identity,
    ):
        """Args are those of the module's text; `pos_weight` multiplies the positive term of the cross-entropy (eta in
        the paper), `pos_floor` and `neg_floor` are the least weights of a positive and of a selected class (the
        released code has 0.001 for the latter; a port of the paper has 0.01). Where a batch is spread over ranks,
        `any_rank` turns bool [class_num] of this rank into that of all, see `distributed.any_rank`."""
        super().__init__(name="loss")
        self.mask_thres = mask_thres
        self.neg_select = neg_select
        self.pos_weight = pos_weight
        self.pos_floor = pos_floor
        self.neg_floor = neg_floor
        self.seed = seed
        self.any_rank = any_rank
        self.pos_count = tf.Variable(tf.zeros([class_num]), trainable=False, name="pos_count")
        self.neg_count = tf.Variable(tf.zeros([class_num]), trainable=False, name="neg_count")
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.positive_share = tf.Variable(0.0, trainable=False, name="positive_share")
        self.selected_share = tf.Variable(0.0, trainable=False, name="selected_share")

    def variables_by_name(self):
        """Returns the state that a restart needs: a dictionary from a name in the checkpoint to a variable."""
        return {"loss/pos_count": self.pos_count, "loss/neg_count": self.neg_count, "loss/step": self.step}

    def shares(self):
        """Returns by name, as floats, the shares of the classes that were positive and selected in the last batch."""
        return {
            "positive_classes": float(self.positive_share),
            "selected_classes": float(self.selected_share),
        }

    def __call__(self, labels, logits):
        """Returns the loss of a batch, float32 [], and counts the batch.

        Args:
          labels: [batch, class_num], confidences in [0, 1], or -1 where unknown: no loss and no gradient there.
          logits: [batch, class_num], of any float type.
        """
        return self.mean_entropy(labels, logits, self.count(labels))

    def mean_entropy(self, labels, logits, weights):
        """Returns the loss of images whose classes weigh `weights`, float32 [class_num]; see `__call__`."""
        return tf.reduce_sum(weights * _class_entropies(labels, logits, self.pos_weight))

    def count(self, labels):
        """Counts a batch by its labels, see `__call__`; returns the weights of the classes in it, float32 [class_num].

        A batch that is computed in parts is counted once, as a whole.
        """
        positive = self.any_rank(tf.reduce_any(tf.cast(labels, tf.float32) >= self.mask_thres, axis=0))
        # The algorithm is named because the default may differ between devices. (XLA draws other numbers from it.)
        draws = tf.random.stateless_uniform(positive.shape, [self.seed, self.step], alg="philox")
        selected = tf.logical_and(~positive, draws <= self.neg_select)
        pos_count = self.pos_count.assign(tf.where(positive, self.pos_count + 1, 0.0))
        neg_count = self.neg_count.assign(tf.where(positive, 0.0, self.neg_count + tf.cast(selected, tf.float32)))
        self.step.assign_add(1)
        self.positive_share.assign(tf.reduce_mean(tf.cast(positive, tf.float32)))
        self.selected_share.assign(tf.reduce_mean(tf.cast(selected, tf.float32)))
        positive_weight = tf.maximum(_log10(10.0 / (0.01 + pos_count)), self.pos_floor)
        # Below 0.01 the weight falls to `neg_floor` at once (released code), not gradually.
        negative_weight = _log10(10.0 / (8.0 + neg_count))
        negative_weight = tf.where(negative_weight > 0.01, negative_weight, self.neg_floor)
        return tf.where(positive, positive_weight, tf.where(selected, negative_weight, 0.0))


class _UnweightedLoss(tf.Module):
    """A loss whose classes all weigh the same: it only counts its batches."""

    def __init__(self):
        super().__init__(name="loss")
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    def variables_by_name(self):
        return {"loss/step": self.step}

    def shares(self):
        return {}

    def count(self, labels):
        self.step.assign_add(1)
        return tf.ones([])


class SigmoidLoss(_UnweightedLoss):
    """Plain sigmoid cross-entropy: the sum over all classes of the mean over the batch; nothing where labels are -1.

    It is what the weighted loss is compared with (paper section 5).
    """

    def mean_entropy(self, labels, logits, weights):
        """Args and result as of `WeightedSigmoidLoss.mean_entropy`."""
        return tf.reduce_sum(weights * _class_entropies(labels, logits, 1.0))


class SoftmaxLoss(_UnweightedLoss):
    """Softmax cross-entropy of single labels, mean over the images that have one (released fine-tuning)."""

    def __init__(self, label_smoothing=0.0):
        """`label_smoothing`, in [0, 1): share of a label's weight that is spread evenly over all classes (Szegedy et
        al. 2016, "Rethinking the Inception Architecture", section 7)."""
        super().__init__()
        self.label_smoothing = label_smoothing

    def mean_entropy(self, labels, logits, weights):
        """Returns the loss, float32 []; labels are integers [batch], or -1 where unknown; logits [batch, class_num]."""
        logits = tf.cast(logits, tf.float32)
        known = labels >= 0
        log_shares = tf.nn.log_softmax(logits)
        own = tf.gather(log_shares, tf.maximum(labels, 0), batch_dims=1)
        smoothed = (1 - self.label_smoothing) * own + self.label_smoothing * tf.reduce_mean(log_shares, axis=1)
        images = tf.reduce_sum(tf.cast(known, tf.float32))
        return -weights * tf.math.divide_no_nan(tf.reduce_sum(tf.where(known, smoothed, 0.0)), images)


def _class_entropies(labels, logits, pos_weight):
    """Sigmoid cross-entropy of each class, mean over the batch, float32 [class_num]; nothing where labels are -1."""
    labels = tf.cast(labels, tf.float32)
    entropies = tf.nn.weighted_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32), pos_weight)
    return tf.reduce_mean(tf.where(labels == -1, 0.0, entropies), axis=0)


def _log10(x):
    return tf.math.log(x) / 2.302585092994046
