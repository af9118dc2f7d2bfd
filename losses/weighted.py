"""The weighted, adaptive, negative-down-sampled sigmoid loss of ML-Images (released code; paper section 4).

`losses/base.py` says what a loss is.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from losses.multi_label import LossConfig, sigmoid, smooth

# Weights of a positive and of a selected all-negative class that do not adapt: about what adaptive ones begin at.
FIXED_WEIGHTS = 1.0, 0.1


class Spread(NamedTuple):
    """How the batch of a step is spread over ranks, and over parts that a rank computes one after the other.

    Attributes:
      rank: of this process.
      ranks: how many there are.
      parts: of the batch of a rank, one after the other along its first axis, of equal size.
      gather: turns bool [parts, class_num] of this rank into [ranks, parts, class_num] of all, see
        `distributed.gather_flags`.
    """

    rank: int = 0
    ranks: int = 1
    parts: int = 1
    gather: Callable = lambda flags: flags[None]


class WeightedSigmoidLoss(tf.Module):
    """Sigmoid cross-entropy with a weight per class that follows how long a class has been present or absent.

    A class is *positive* in a batch when any of its labels reaches `mask_thres`, otherwise *all-negative*. Positive
    classes take part in every step, all-negative ones with probability `neg_select`. A class that is positive, or
    all-negative and selected, in many batches one after the other is weighted less and less, so that neither frequent
    classes nor the mass of absent ones dominate.

    Which images are "a batch", the paper does not say, and `presence` chooses: those of a step on all ranks, with one
    selection and one set of counters; or of each rank, or of each part of a rank's batch in turn, with counters and
    selection of its own. Of these, each rank keeps the counters of all, so that one checkpoint holds them.

    The state is float32 (exact up to 2**24 consecutive batches) and belongs in a checkpoint, see `variables_by_name`.

    Attributes:
      pos_count: float32 [class_num], consecutive batches up to the last one in which the class was positive; with a
        `presence` of "rank" or "part" [ranks, class_num].
      neg_count: of that shape, batches in which it was all-negative and selected since it was last positive.
      positive_share, selected_share: float32 [], shares of the classes that were positive, and all-negative and
        selected, in the last batch; with a presence of "part" the means over the parts of the last step.
      by_part: whether `count` returns weights for each part.
    """

    terms = ()

    def __init__(self, class_num, config=LossConfig(), seed=1234, any_rank=tf.identity, spread=Spread()):
        """Args:
        class_num: number of classes.
        config: a `LossConfig`.
        seed: of the selection, which is drawn statelessly from it and the step, so that a restart repeats it.
        any_rank: where a batch is spread over ranks, turns bool [class_num] of this rank into that of all, see
          `distributed.any_rank`; of a `presence` of "global".
        spread: a `Spread`; of the others.
        """
        super().__init__(name="loss")
        self.config = config
        self.seed = seed
        self.any_rank = any_rank
        self.spread = spread
        self.by_part = config.presence == "part"
        shape = [class_num] if config.presence == "global" else [spread.ranks, class_num]
        self.pos_count = tf.Variable(tf.zeros(shape), trainable=False, name="pos_count")
        self.neg_count = tf.Variable(tf.zeros(shape), trainable=False, name="neg_count")
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
          weights: float32 [class_num], what `count` returned for the whole batch, or for this part.
        """
        targets = smooth(batch["label"], self.config.label_smoothing)
        logits = tf.cast(outputs["logits"], tf.float32)
        return tf.reduce_sum(weights * sigmoid(targets, logits, self.config.pos_weight))

    def count(self, batch, step):
        """Counts a batch by its "label"; returns the weights of the classes in it, float32 [class_num].

        A batch that is computed in parts is counted once, as a whole; but `by_part` each part is counted, one after the
        other, and the weights are [parts, class_num]. `step`, int64 [], is the number of steps before.
        """
        labels, parts, rank = batch["label"], self.spread.parts if self.by_part else 1, self.spread.rank
        reached = tf.cast(labels, tf.float32) >= self.config.mask_thres
        positive = tf.reduce_any(tf.reshape(reached, [parts, -1, labels.shape[-1]]), axis=1)
        if self.config.presence == "global":
            positive = self.any_rank(positive[0])
            selected, weights = self._count(positive, step)
        else:
            positive = self.spread.gather(positive)
            counted = [self._count(positive[:, k], step * parts + k) for k in range(parts)]
            selected, weights = (tf.stack([one[rank] for one in of_parts]) for of_parts in zip(*counted, strict=True))
            positive, weights = positive[rank], weights if self.by_part else weights[0]
        self.positive_share.assign(tf.reduce_mean(tf.cast(positive, tf.float32)))
        self.selected_share.assign(tf.reduce_mean(tf.cast(selected, tf.float32)))
        return weights

    def _count(self, positive, step):
        """Counts where classes are `positive`, bool of the counters' shape; returns the selected ones, and weights."""
        # The algorithm is named because the default may differ between devices. (XLA draws other numbers from it.)
        draws = tf.random.stateless_uniform(positive.shape, [self.seed, step], alg="philox")
        selected = tf.logical_and(~positive, draws <= self.config.neg_select)
        pos_count = self.pos_count.assign(tf.where(positive, self.pos_count + 1, 0.0))
        neg_count = self.neg_count.assign(tf.where(positive, 0.0, self.neg_count + tf.cast(selected, tf.float32)))
        positive_weight, negative_weight = FIXED_WEIGHTS
        if self.config.adaptive_weights:
            positive_weight = tf.maximum(_log10(10.0 / (0.01 + pos_count)), self.config.pos_floor)
            # Below 0.01 the weight falls to `neg_floor` at once (released code), not gradually.
            negative_weight = _log10(10.0 / (8.0 + neg_count))
            negative_weight = tf.where(negative_weight > 0.01, negative_weight, self.config.neg_floor)
        return selected, tf.where(positive, positive_weight, tf.where(selected, negative_weight, 0.0))


def _log10(x):
    return tf.math.log(x) / 2.302585092994046
