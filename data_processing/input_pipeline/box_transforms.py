"""From a decoded image of any size to the input of a network that keeps its aspect, and boxes with it.

Images stay bytes until they are on the device: a resized one would be ten times as much to hold and to send. Those
much larger than the network sees them are shrunk before (`shrunk`), so that what waits in batches is bounded.
"""

import tensorflow as tf

# Sides of the input are multiples of it, so that images of about one size make one batch.
MULTIPLE = 64


def network_size(original, short_side, long_side):
    """Returns the height and width, int32 [2], that an image of `original` height and width, int32 [2], is resized to.

    The short side becomes `short_side`, unless the long one were more than `long_side` then: both int32 [], in pixels.
    """
    sides = tf.cast(original, tf.float32)
    short, long = tf.cast(short_side, tf.float32), tf.cast(long_side, tf.float32)
    scale = tf.minimum(short / tf.reduce_min(sides), long / tf.reduce_max(sides))
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), 1)


def padded_size(size):
    """Returns `size`, integers, as the next multiples of MULTIPLE."""
    return -(-size // MULTIPLE) * MULTIPLE


def held_size(original, short_side, long_side):
    """Returns the height and width, int32 [2], that an image is held in: at most twice those of `network_size`."""
    return tf.minimum(original, 2 * network_size(original, short_side, long_side))


def shrunk(image, short_side, long_side):
    """Returns an image, uint8 [height, width, 3], in its `held_size`, by the mean over areas; most are as they were.

    So it takes no more bytes than the network's input of it. It is decoded whole before: while that lasts, it is as
    large as it is. Of the large ones the network sees all pixels, where bilinear resizing alone would pass over some.
    """
    original = tf.shape(image)[:2]
    held = held_size(original, short_side, long_side)

    def reduced():
        return tf.cast(tf.round(tf.image.resize(image, held, "area")), tf.uint8)

    return tf.cond(tf.reduce_all(held == original), lambda: tf.convert_to_tensor(image), reduced)


def fit(image, short_side, long_side):
    """Returns an image as the network takes it.

    Args:
      image: uint8 [height, width, 3].
      short_side, long_side: see `network_size`.

    Returns:
      float32 [padded height, padded width, 3] in [-1, 1], `shrunk`, resized (bilinear) and padded with 0 at right and
      bottom; the height and width of what is not padding, int32 [2]; and the factors by which height and width were
      resized in all, float32 [2].
    """
    return _fit_held(shrunk(image, short_side, long_side), tf.shape(image)[:2], short_side, long_side)


def _fit_held(image, original, short_side, long_side):
    """`fit` of an image in its `held_size`, of what had `original` height and width."""
    size = network_size(original, short_side, long_side)
    pixels = tf.image.resize(image, size) / 127.5 - 1
    below = padded_size(size) - size
    pixels = tf.pad(pixels, [[0, below[0]], [0, below[1]], [0, 0]])
    return tf.ensure_shape(pixels, [None, None, 3]), size, tf.cast(size, tf.float32) / tf.cast(original, tf.float32)


def fit_batch(images, originals, short_side, long_side):
    """Returns the images of a batch as `fit` does each, and padded to a common size.

    Args:
      images: uint8 [batch, height, width, 3], `shrunk` and then padded at right and bottom.
      originals: int32 [batch, 2], height and width of each before it was shrunk.
      short_side, long_side: see `network_size`; int32 [].

    Returns float32 [batch, padded height, padded width, 3], int32 [batch, 2] and float32 [batch, 2], see `fit`.
    """
    sizes = tf.map_fn(lambda original: network_size(original, short_side, long_side), originals)
    largest = tf.reduce_max(padded_size(sizes), axis=0)

    def one(pair):
        image, original = pair
        height, width = tf.unstack(held_size(original, short_side, long_side))
        pixels, size, scale = _fit_held(image[:height, :width], original, short_side, long_side)
        below = largest - tf.shape(pixels)[:2]
        return tf.pad(pixels, [[0, below[0]], [0, below[1]], [0, 0]]), size, scale

    types = (
        tf.TensorSpec([None, None, 3], tf.float32),
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([2], tf.float32),
    )
    return tf.map_fn(one, (images, originals), fn_output_signature=types)


def scaled(boxes, scale):
    """Returns boxes, float32 [batch, n, 4], times the factors of height and width of each image, float32 [batch, 2]."""
    return boxes * tf.gather(scale, [1, 0, 1, 0], axis=1)[:, None]


def mirrored(boxes, width):
    """Returns boxes, float32 [n, 4], of an image of this width as they are in its mirror image."""
    left, top, right, bottom = tf.unstack(boxes, axis=1)
    width = tf.cast(width, tf.float32)
    return tf.stack([width - right, top, width - left, bottom], axis=1)
