"""Boxes as tensors: offsets from one to another, clipping, overlap, and samples of some of them.

A box is left, top, right, bottom in pixels, at the edges: one over a whole image is 0, 0, width, height. So a width is
right - left, where the reference recipe, whose right is the last pixel's number, adds 1 to the same effect.
"""

import math

from keras.utils import bounding_boxes
import tensorflow as tf

# The logarithm of how many times as wide or high as its anchor a box is predicted at most, so that no wild offset
# overflows: the reference recipe's longest image to the network's stride. (Detectron does so, too.)
MAX_LOG_SCALE = math.log(1000 / 16)
# Sides, in pixels, below which a box is none.
MIN_SIDE = 1.0


def encode(anchors, boxes, scales=(1.0, 1.0, 1.0, 1.0)):
    """Returns the offsets from anchors to boxes, float32 [..., 4] (Ren et al. 2015, equation 2).

    Args:
      anchors, boxes: float32 [..., 4], whose leading dimensions broadcast.
      scales: what the four offsets are divided by.

    The offsets are of the centre, horizontally and vertically, as a share of the anchor's sides, and of the logarithms
    of width and height.
    """
    return bounding_boxes.encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy", "center_xywh", scales)


def decode(anchors, offsets, scales=(1.0, 1.0, 1.0, 1.0)):
    """Returns the boxes that offsets, see `encode`, lead to from anchors, float32 [..., 4].

    The logarithms of width and height are clipped to at most MAX_LOG_SCALE either way: 62.5 times an anchor's sides, or
    that part of them.
    """
    offsets *= tf.constant(scales, tf.float32)
    log_sides = tf.clip_by_value(offsets[..., 2:], -MAX_LOG_SCALE, MAX_LOG_SCALE)
    offsets = tf.concat([offsets[..., :2], log_sides], axis=-1)
    return bounding_boxes.decode_deltas_to_boxes(anchors, offsets, "xyxy", "xyxy", "center_xywh")


def clip(boxes, sizes):
    """Returns boxes [batch, …, 4] without what is outside of their images; `sizes` int32 [batch, 2], height, width."""
    height, width = tf.unstack(tf.cast(sizes, tf.float32), axis=1)
    limits = tf.stack([width, height, width, height], axis=1)
    limits = tf.reshape(limits, [-1, *[1] * (len(boxes.shape) - 2), 4])
    return tf.clip_by_value(boxes, 0.0, limits)


def large_enough(boxes):
    """Returns whether boxes [..., 4] are as wide and as high as anything can be, bool [...]."""
    return tf.reduce_all(boxes[..., 2:] - boxes[..., :2] >= MIN_SIDE, axis=-1)


class Objects:
    """The true objects of a batch, as a detector compares boxes with them.

    Attributes:
      boxes: float32 [batch, objects, 4].
      labels: int32 [batch, objects].
      true: bool [batch, objects], False for what only fills up.
      wanted: bool [batch, objects], those that are to be found: true and not difficult.
    """

    def __init__(self, batch):
        """`batch` has "box", "label" and "difficult", see `faster_rcnn.Detector.training_outputs`."""
        # One more that only fills up, so that there is always one.
        self.boxes = tf.pad(batch["box"], [[0, 0], [0, 1], [0, 0]])
        self.labels = tf.pad(tf.cast(batch["label"], tf.int32), [[0, 0], [0, 1]], constant_values=-1)
        self.true = self.labels >= 0
        self.wanted = self.true & ~tf.pad(batch["difficult"], [[0, 0], [0, 1]])

    def overlaps(self, boxes):
        """Returns IoUs with boxes [(batch,) count, 4]: float32 [batch, count, objects], -1 where nothing is true.

        A difficult object is neither to be found nor background: what is compared with `wanted` and what with `true`
        differs.
        """
        overlaps = bounding_boxes.compute_iou(boxes, self.boxes, "xyxy")
        return tf.where(self.true[:, None], overlaps, -1.0)

    def wanted_overlaps(self, overlaps):
        """Returns `overlaps` with -1 for objects that are not wanted."""
        return tf.where(self.wanted[:, None], overlaps, -1.0)

    def of(self, indices):
        """Returns boxes and labels of the objects `indices`, int [batch, count]: [batch, count, 4], [batch, count]."""
        return tf.gather(self.boxes, indices, batch_dims=1), tf.gather(self.labels, indices, batch_dims=1)


def random_keys(seeds, count, number):
    """Returns numbers in [0, 1), float32 [batch, count], each row from its seed alone.

    Args:
      seeds: int64 [batch, 2].
      count: numbers of a row; more of them begin with the same.
      number: of the use that is made of a seed: other numbers for another one.
    """
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform([count], tf.random.fold_in(seed, number)),
        seeds,
        fn_output_signature=tf.TensorSpec([None], tf.float32),
    )


def sample(candidates, count, keys):
    """Returns which of the candidates are sampled, bool [batch, n]: those of the lowest keys.

    Args:
      candidates: bool [batch, n].
      count: how many at most; int32, or [batch, 1].
      keys: of `random_keys`, [batch, n].
    """
    ranks = tf.argsort(tf.argsort(tf.where(candidates, keys, 2.0)))
    return candidates & (ranks < count)
