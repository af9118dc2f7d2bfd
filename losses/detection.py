"""The loss of Faster R-CNN (Ren et al. 2015, section 3.1.2; Girshick 2015, section 2.3), in four terms of weight 1."""

import tensorflow as tf

from losses.base import UnweightedLoss

# Where smooth L1 becomes linear: at an error of 1 / sigma ** 2 (reference recipe).
RPN_SIGMA, REGION_SIGMA = 3.0, 1.0


class DetectionLoss(UnweightedLoss):
    """Cross-entropy and smooth L1, of anchors and of regions; of `models.faster_rcnn.Detector.training_outputs`."""

    terms = ("rpn_class", "rpn_box", "region_class", "region_box")

    def __call__(self, batch, outputs, weights):
        """Returns the terms by name, float32 []: "rpn_class", "rpn_box", "region_class" and "region_box".

        Each is a mean over images of a term of one image, so that the mean over processes is that of one large batch.
        An image's term is a sum over its sampled anchors, or regions, divided by their number, also where only those on
        objects have an error, as of boxes. It is 0 for an image without any.
        """
        anchors, regions = outputs["rpn_labels"], outputs["region_labels"]
        rpn_class = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(anchors == 1, tf.float32), outputs["rpn_logits"])
        region_class = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(regions, 0), outputs["region_logits"])
        on_object = (regions >= 0) & (regions < outputs["region_logits"].shape[-1] - 1)
        return {
            "rpn_class": _mean(rpn_class, anchors >= 0, anchors >= 0),
            "rpn_box": _mean(_error(outputs, "rpn", anchors == 1, RPN_SIGMA), anchors == 1, anchors >= 0),
            "region_class": _mean(region_class, regions >= 0, regions >= 0),
            "region_box": _mean(_error(outputs, "region", on_object, REGION_SIGMA), on_object, regions >= 0),
        }


def _error(outputs, kind, on_object, sigma):
    """Smooth L1 of the offsets, [batch, n]; others than those on objects count as right, whatever they are."""
    offsets, targets = outputs[f"{kind}_offsets"], outputs[f"{kind}_targets"]
    return smooth_l1(tf.where(on_object[..., None], offsets - targets, 0.0), sigma)


def smooth_l1(errors, sigma):
    """Returns the sum over the last axis of smooth L1: a parabola up to an error of 1 / sigma ** 2, then a line."""
    sizes, turn = tf.abs(errors), 1 / sigma**2
    return tf.reduce_sum(tf.where(sizes < turn, errors**2 / (2 * turn), sizes - turn / 2), axis=-1)


def _mean(values, counted, sampled):
    """The mean over images of the sum of the `counted` of `values` [batch, n], divided by the number `sampled`."""
    # Chosen, not multiplied by 0: what was not sampled may be anything.
    sums = tf.reduce_sum(tf.where(counted, values, 0.0), axis=1)
    numbers = tf.reduce_sum(tf.cast(sampled, tf.float32), axis=1)
    return tf.reduce_mean(sums / tf.maximum(numbers, 1.0))
