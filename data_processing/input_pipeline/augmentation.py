"""What becomes of a training image after its crop, on the host or on the device: mirrored, rotated, in other colors.

All of it is drawn where the image is cropped, and travels with it as DRAWN numbers: XLA, on a device, would draw others
from the same seed. Of an image that stays as it is they are neutral, so that a batch on the device needs no cases.
"""

import functools
import math

import tensorflow as tf

MAX_ROTATION = math.pi / 4
MAX_BRIGHTNESS = 32 / 255
SATURATION = CONTRAST = (0.5, 1.5)
MAX_HUE = 0.2
# Mirrored where below a half, angle, brightness, contrast that comes before saturation and hue, these two, and contrast
# that comes after them. What an image is given that stays as it is, and the least and greatest of what is drawn:
NEUTRAL = (1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0)
LOWEST = (0.0, -MAX_ROTATION, -MAX_BRIGHTNESS, CONTRAST[0], SATURATION[0], -MAX_HUE, CONTRAST[0])
HIGHEST = (1.0, MAX_ROTATION, MAX_BRIGHTNESS, CONTRAST[1], SATURATION[1], MAX_HUE, CONTRAST[1])
DRAWN = len(NEUTRAL)


def draw(seeds, rotated, color_jitter):
    """Returns what becomes of an image, float32 [DRAWN], see NEUTRAL.

    Args:
      seeds: four of int64 [2]: of mirroring, of the choice among what follows, of the angle and of the colors.
      rotated: share of the images that are rotated, with color jitter in order A, contrast last.
      color_jitter: share of the images with color jitter, in order A or in order B, contrast after brightness.
    """
    mirrored, choice, angle = (tf.random.stateless_uniform([1], seed) for seed in seeds[:3])
    colors = tf.gather(tf.random.stateless_uniform([4], seeds[3]), [0, 3, 1, 2, 3])
    # Between which choices each number is drawn, and not neutral.
    either = max(rotated, color_jitter)
    since = tf.constant([0, 0, 0, rotated, 0, 0, 0], tf.float32)
    until = tf.constant([1, rotated, either, color_jitter, either, either, rotated], tf.float32)
    lowest = tf.constant(LOWEST)
    values = lowest + tf.concat([mirrored, angle, colors], axis=0) * (tf.constant(HIGHEST) - lowest)
    return tf.where((since <= choice) & (choice < until), values, tf.constant(NEUTRAL))


def augmented(images, drawn):
    """Returns a batch of images, mirrored, rotated and in other colors, float32 [batch, height, width, 3] in [-1, 1].

    Args:
      images: uint8 or float32 [batch, height, width, 3] in [0, 255].
      drawn: float32 [batch, DRAWN], see `draw`.
    """
    return _recolored(_turned(images, drawn), drawn)


def augmented_alone(image, drawn):
    """Returns one image as `augmented` does a batch, but does nothing to it that its numbers do not ask for.

    Args:
      image: float32 [height, width, 3] in [0, 255].
      drawn: float32 [DRAWN].
    """
    images, draws = image[None], drawn[None]

    def order_a():
        return _compiled_recolored(_compiled_turned(images, draws), draws, early=False)

    def others():
        mirrored = tf.cond(drawn[0] < 0.5, lambda: tf.reverse(images, [2]), lambda: images)
        is_neutral = tf.reduce_all(drawn[2:] == NEUTRAL[2:])
        order_b = functools.partial(_compiled_recolored, mirrored, draws, late=False)
        return tf.cond(is_neutral, lambda: mirrored / 127.5 - 1, order_b)

    is_rotated = tf.reduce_any(tf.gather(drawn, [1, 6]) != [NEUTRAL[1], NEUTRAL[6]])  # either may be neutral by chance
    return tf.cond(is_rotated, order_a, others)[0]


def _turned(images, drawn):
    return rotate(tf.cast(images, tf.float32), drawn[:, 1], drawn[:, 0] < 0.5)


def _recolored(images, drawn, early=True, late=True):
    """Colors by what was `drawn`; contrast `early` and `late`, where it is known to be neutral, can be left out."""
    brightness, contrast, saturation, hue, late_contrast = tf.unstack(drawn[:, 2:], axis=1)
    contrast, late_contrast = contrast if early else None, late_contrast if late else None
    images = color_jitter(images / 255, brightness, contrast, saturation, hue, late_contrast)
    return tf.clip_by_value(images, 0, 1) * 2 - 1


def color_jitter(images, brightness, contrast, saturation, hue, late_contrast):
    """Returns images with other colors, the same as by the functions of `tf.image` in the order of the parameters.

    Args:
      images: float32 [batch, height, width, 3], RGB, in [0, 1]. The others are float32 [batch].
      brightness: added, as in `tf.image.adjust_brightness`.
      contrast: factor, as in `tf.image.adjust_contrast`, of the release's order B; None: none.
      saturation: factor, as in `tf.image.adjust_saturation`.
      hue: share of the color circle, in (-1, 1), as in `tf.image.adjust_hue`.
      late_contrast: the same, of its order A.
    """
    # Planes of one channel each, which the compiler turns into vector instructions.
    planes = tf.transpose(images, [0, 3, 1, 2]) + _of_each(brightness)
    if contrast is not None:
        planes = _adjust_contrast(planes, _of_each(contrast))
    planes = _adjust_saturation_and_hue(planes, _of_each(saturation), _of_each(hue))
    if late_contrast is not None:
        planes = _adjust_contrast(planes, _of_each(late_contrast))
    return tf.transpose(planes, [0, 2, 3, 1])


def _of_each(factor):
    return factor[:, None, None, None]


def _adjust_contrast(planes, factor):
    # First over rows, then over columns: a sum over both at once is one long chain of scalar additions.
    mean = tf.reduce_mean(tf.reduce_mean(planes, axis=2), axis=2)[:, :, None, None]
    return (planes - mean) * factor + mean


def _adjust_saturation_and_hue(planes, saturation, hue):
    """In HSV: saturation times a factor, at most 1, and hue shifted; without the way through HSV images."""
    red, green, blue = tf.split(planes, 3, axis=1)
    value = tf.maximum(red, tf.maximum(green, blue))
    spread = value - tf.minimum(red, tf.minimum(green, blue))
    # Hue in sixths of the circle, by which channel is the greatest.
    inverse = tf.where(spread > 0, 1 / spread, 0.0)
    sector = tf.where(
        value == red,
        (green - blue) * inverse,
        tf.where(value == green, 2 + (blue - red) * inverse, 4 + (red - green) * inverse),
    )
    spread = tf.where(value > 0, tf.minimum(spread * saturation, value), 0.0)
    shifted = sector + hue * 6 + tf.constant([5.0, 3.0, 1.0])[:, None, None]
    shifted -= 6 * tf.floor(shifted / 6)
    return value - spread * tf.clip_by_value(tf.minimum(shifted, 4 - shifted), 0, 1)


def rotate(images, angle, mirrored):
    """Returns images, each mirrored or not and then rotated counter-clockwise about its centre.

    Nearest neighbour, and black where there was nothing, as `tf.contrib.image.rotate` did.

    Args:
      images: float32 [batch, height, width, channels].
      angle: float32 [batch], in radians.
      mirrored: bool [batch].
    """
    height, width, channels = images.shape[1:]
    angle, mirrored = angle[:, None, None], mirrored[:, None, None]
    cos, sin = tf.cos(angle), tf.sin(angle)
    x = tf.range(width, dtype=tf.float32)[None, :] - (width - 1) / 2
    y = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2
    # Pixel (x, y) of the result is taken from where the inverse rotation puts it.
    column = tf.cast(tf.round(cos * x - sin * y + (width - 1) / 2), tf.int32)
    row = tf.cast(tf.round(sin * x + cos * y + (height - 1) / 2), tf.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column = tf.where(mirrored, width - 1 - column, column)
    image = tf.range(tf.shape(images)[0])[:, None, None]
    place = tf.where(inside, (image * height + row) * width + column, 0)
    return tf.where(inside[..., None], tf.gather(tf.reshape(images, [-1, channels]), place), 0.0)


# TensorFlow's kernels for saturation, hue and rotation cost more than the decoding of the image; compiled into loops,
# the same arithmetic costs a fraction of it. (benchmarks/input_pipeline.py) A device takes them as they are: on a GPU
# a few passes over the batch are little beside a network's, and need no compiler.
_compiled_turned = tf.function(_turned, jit_compile=True)
_compiled_recolored = tf.function(_recolored, jit_compile=True)
