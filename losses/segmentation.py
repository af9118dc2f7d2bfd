"""The loss of semantic segmentation: cross-entropy over the pixels of an image that have a class."""

import tensorflow as tf

from losses.base import UnweightedLoss


class SegmentationLoss(UnweightedLoss):
    """Mean cross-entropy over all pixels that are not void, of all processes' images together.

    Attributes:
      class_weights: float32 [class_num], what a pixel counts by its true class; or None, all alike.
      hard_share: of an image's pixels that are not void, the share that counts, those of the highest loss, in (0, 1].
    """

    def __init__(self, class_weights=None, hard_share=1.0, average=tf.identity):
        """`average` is a function of a tensor to its mean over processes."""
        self.class_weights = None if class_weights is None else tf.constant(class_weights, tf.float32)
        self.hard_share = hard_share
        self.average = average

    def count(self, batch, step):
        """Returns what an image's sum is multiplied by, float32 []: 1 / the mean weight of its pixels.

        Args:
          batch: "mask" int32 [batch, height, width], -1 for void.
          step: not used.
        """
        weights = self._weights(batch["mask"])
        mean = self.average(tf.reduce_mean(tf.reduce_sum(weights, axis=[1, 2])))
        return 1.0 / (tf.maximum(mean, 1.0) * self.hard_share)

    def __call__(self, batch, outputs, weights):
        """Returns the loss, float32 []; args as of `UnweightedLoss`.

        `outputs` has "logits", float32 [batch, height, width, class_num], of the same size as `batch`'s "mask".
        """
        mask = batch["mask"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(mask, 0), outputs["logits"])
        # Chosen, not multiplied by 0: logits of void pixels may be anything.
        losses = tf.where(mask >= 0, losses, 0.0) * self._weights(mask)
        if self.hard_share < 1:
            losses = tf.where(self._is_hard(losses, mask), losses, 0.0)
        return weights * tf.reduce_mean(tf.reduce_sum(losses, axis=[1, 2]))

    def _weights(self, mask):
        if self.class_weights is None:
            return tf.cast(mask >= 0, tf.float32)
        return tf.where(mask >= 0, tf.gather(self.class_weights, tf.maximum(mask, 0)), 0.0)

    def _is_hard(self, losses, mask):
        """Whether a pixel is among the share of the highest loss, of those of its image that are not void."""
        flat = tf.reshape(tf.stop_gradient(losses), [tf.shape(losses)[0], -1])
        wanted = tf.cast(tf.reduce_sum(tf.cast(mask >= 0, tf.float32), axis=[1, 2]) * self.hard_share, tf.int32)
        ordered = tf.sort(flat, direction="DESCENDING")
        least = tf.gather(ordered, tf.maximum(wanted - 1, 0), batch_dims=1)
        return losses >= least[:, None, None]
