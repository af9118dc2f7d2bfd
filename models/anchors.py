"""Anchors of Faster R-CNN: where they are, and which ones an image's objects make positive (Ren et al. 2015, 3.1).

Those of sizes 128, 256 and 512 are the reference's nine to the pixel, rounded as there: a ratio's sides are whole
pixels at 16 pixels and scale with the size (23 x 12 is 184 x 96 at size 128, where 128 * sqrt(2) would be 181.0). The
one difference is that right and bottom are edges here, and so greater by 1 than its last pixels' numbers.
"""

import numpy as np
import tensorflow as tf

from models import boxes

STRIDE = 16  # of what leaves stages_2
RATIOS = (0.5, 1.0, 2.0)  # height / width
SAMPLED = 256  # anchors of an image that are trained on, at most half of them positive
POSITIVE, NEGATIVE = 0.7, 0.3  # IoU from which, and below which, an anchor is one


def of_cell(sizes):
    """Returns the anchors of the first cell of the map, float32 [3 * len(sizes), 4], ratio after ratio.

    Args:
      sizes: square roots of their areas, in pixels.
    """
    sides = []
    for ratio in RATIOS:
        width = np.round(STRIDE / ratio**0.5)
        sides += [(size / STRIDE * width, size / STRIDE * np.round(width * ratio)) for size in sizes]
    halves = np.array(sides) / 2
    return np.concatenate([STRIDE / 2 - halves, STRIDE / 2 + halves], axis=1).astype(np.float32)


def of_map(sizes, height, width):
    """Returns the anchors of all cells, float32 [height * width * 3 * len(sizes), 4], row after row.

    Args:
      sizes: see `of_cell`.
      height, width: of the map, in cells.
    """
    x, y = tf.meshgrid(tf.range(width) * STRIDE, tf.range(height) * STRIDE)
    shifts = tf.cast(tf.stack([x, y, x, y], axis=-1), tf.float32)
    return tf.reshape(shifts[:, :, None] + of_cell(sizes), [-1, 4])


def on_image(anchors, image_sizes):
    """Returns which anchors are of cells on the true image, not on its padding, bool [batch, anchors].

    Args:
      anchors: float32 [anchors, 4].
      image_sizes: int32 [batch, 2], height and width of the true images, in pixels.
    """
    first_pixel = (anchors[:, 1::-1] + anchors[:, 3:1:-1] - STRIDE) / 2  # of the cell: y, x
    return tf.reduce_all(first_pixel < tf.cast(image_sizes[:, None], tf.float32), axis=-1)


def inside(anchors, image_sizes):
    """Returns which anchors do not cross the true image's border, bool [batch, anchors]."""
    height, width = (tf.cast(image_sizes[:, k, None], tf.float32) for k in range(2))
    left, top, right, bottom = tf.unstack(anchors, axis=-1)
    return (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)


def targets(anchors, objects, image_sizes, seeds):
    """Returns what the network should say of the anchors that are sampled for training.

    Args:
      anchors: float32 [anchors, 4].
      objects: `boxes.Objects`. What overlaps a difficult one like an object is not background.
      image_sizes: int32 [batch, 2], height and width of the true images.
      seeds: int64 [batch, 2].

    Returns:
      labels: int32 [batch, anchors], 1 for an object, 0 for none, -1 for those that are not sampled.
      offsets: float32 [batch, anchors, 4], to the object of the highest IoU.
    """
    usable = inside(anchors, image_sizes)
    overlaps = tf.where(usable[:, :, None], objects.overlaps(anchors), -1.0)
    wanted = objects.wanted_overlaps(overlaps)
    # An object's best anchors, all of them where some are equally good, however little they overlap: but they do.
    best = (wanted == tf.reduce_max(wanted, axis=1, keepdims=True)) & (wanted > 0)
    positive = (tf.reduce_max(wanted, axis=2) >= POSITIVE) | tf.reduce_any(best, axis=2)
    negative = usable & ~positive & (tf.reduce_max(overlaps, axis=2) < NEGATIVE)
    keys = boxes.random_keys(seeds, tf.shape(anchors)[0], 0)
    positive = boxes.sample(positive, SAMPLED // 2, keys)
    count = tf.reduce_sum(tf.cast(positive, tf.int32), axis=1, keepdims=True)
    negative = boxes.sample(negative, SAMPLED - count, keys)
    labels = tf.where(positive, 1, tf.where(negative, 0, -1))
    nearest, _ = objects.of(tf.argmax(wanted, axis=2))
    return labels, boxes.encode(anchors, nearest)
