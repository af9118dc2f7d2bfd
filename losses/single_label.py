"""The loss of single-label training: softmax cross-entropy. `losses/base.py` says what a loss is."""

import tensorflow as tf

from losses.base import UnweightedLoss


class SoftmaxLoss(UnweightedLoss):
    """Softmax cross-entropy of single labels, mean over the images that have one (released fine-tuning)."""

    def __init__(self, label_smoothing=0.0):
        """`label_smoothing`, in [0, 1): share of a label's weight that is spread evenly over all classes (Szegedy et
        al. 2016, "Rethinking the Inception Architecture", section 7)."""
        self.label_smoothing = label_smoothing

    def __call__(self, batch, outputs, weights):
        """Returns the loss of a batch, or of a part of one, float32 [].

        Args:
          batch: its "label" is integer [batch], -1 where unknown.
          outputs: its "logits" are [batch, class_num], of any float type.
          weights: what `count` returned.
        """
        labels, logits = batch["label"], tf.cast(outputs["logits"], tf.float32)
        known = labels >= 0
        log_shares = tf.nn.log_softmax(logits)
        own = tf.gather(log_shares, tf.maximum(labels, 0), batch_dims=1)
        smoothed = (1 - self.label_smoothing) * own + self.label_smoothing * tf.reduce_mean(log_shares, axis=1)
        images = tf.reduce_sum(tf.cast(known, tf.float32))
        return -weights * tf.math.divide_no_nan(tf.reduce_sum(tf.where(known, smoothed, 0.0)), images)
