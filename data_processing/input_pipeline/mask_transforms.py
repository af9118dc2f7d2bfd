"""From a record's image and mask to a network's input: the random crop of training, and whole images in evaluation.

A mask is int32 [height, width], a class for each pixel, and -1 for void. Image and mask are sampled at the same points;
classes are never mixed. All random numbers are stateless.
"""

import tensorflow as tf

from data_processing.input_pipeline.transforms import decode_jpeg
from data_processing.records import schema

# Of DeepLab's reference recipe (docs/segmentation.md): how much an image is enlarged before it is cropped.
SCALES = 0.5, 2.0
# An image's sides are padded to multiples of it, and 1: so images of about one size make one batch, and the cells of an
# output stride that divides it lie with their centres in the corners.
MULTIPLE = 64


def decode(example, class_num):
    """Returns the image, uint8 [height, width, 3], and mask of an example.

    Args:
      example: a dictionary with "image" and "mask", string [], encoded as `schema` says.
      class_num: number of classes. An index that is neither below it nor void is an error of the operation, as is a
        mask of another size than the image's.
    """
    image, png = decode_jpeg(example["image"]), example["mask"]
    # A palette would be decoded to its colors, and a mask may be too large to decode. (Messages of errors must not hold
    # the bytes of a PNG, which are no text.)
    with tf.control_dependencies([tf.debugging.assert_greater(tf.strings.length(png), 26, "a mask is no PNG")]):
        header = tf.io.decode_raw(tf.strings.substr(png, 16, 10), tf.uint8)
    sides = tf.bitcast(tf.reverse(tf.reshape(header[:8], [2, 4]), [1]), tf.int32)
    checks = [
        tf.debugging.assert_equal(
            sides, tf.reverse(tf.shape(image)[:2], [0]), "a mask has another size than its image"
        ),
        tf.debugging.assert_equal(header[8:], tf.constant([8, 0], tf.uint8), "a mask is not 8 bits of grey"),
    ]
    with tf.control_dependencies(checks):
        mask = tf.cast(tf.io.decode_png(png, channels=1)[..., 0], tf.int32)
    mask = tf.where(mask == schema.VOID, -1, mask)
    with tf.control_dependencies([tf.debugging.assert_less(mask, class_num, "a mask has an index above the classes")]):
        return image, tf.identity(mask)


def random_crop(image, mask, size, seed):
    """Returns a random part of an image and its mask, scaled by a factor in SCALES, and perhaps mirrored.

    Args:
      image: uint8 [height, width, 3].
      mask: int32 [height, width].
      size: height and width of the result, in pixels.
      seed: int32 or int64 [2].

    Returns:
      float32 [size, size, 3] in [-1, 1], bilinear, half-pixel centres, no antialias; and int32 [size, size], nearest
      neighbour at the same points. What lies outside of the image is 0, and void.
    """
    draws = tf.unstack(tf.random.stateless_uniform([4], seed))
    original = tf.shape(image)[:2]
    scale = SCALES[0] + draws[0] * (SCALES[1] - SCALES[0])
    scaled = tf.maximum(tf.cast(tf.round(tf.cast(original, tf.float32) * scale), tf.int32), 1)
    # A larger image is cropped anywhere, a smaller one lies anywhere.
    room = tf.cast(scaled - size, tf.float32)
    begin = tf.cast(tf.round(room * tf.stack(draws[1:3])), tf.int32)
    return scaled_window(image, mask, scaled, begin, size, draws[3] < 0.5)


def scaled_window(image, mask, scaled, begin, size, mirror=False):
    """Returns a window, see `random_crop`, of an image and its mask in other sizes; these are never made whole.

    Args:
      image, mask, size: as of `random_crop`.
      scaled: int32 [2], height and width that the image is resized to.
      begin: int32 [2], top and left of the window in the resized image; what reaches over it is outside.
      mirror: bool [], whether the window is mirrored.
    """
    original = tf.shape(image)[:2]
    k = begin[:, None] + tf.range(size)
    # Places are mirrored, which costs nothing, and so not what will lie there.
    k = tf.where(tf.stack([False, mirror])[:, None], k[:, ::-1], k)
    is_there = (k >= 0) & (k < scaled[:, None])
    # The centre k + 1/2 of a resized row comes from (k + 1/2) original / scaled: for the mask in whole numbers.
    places, sides, scaled_sides = (tf.cast(one, tf.int64) for one in (k, original[:, None], scaled[:, None]))
    nearest = tf.where(is_there, tf.cast((2 * places + 1) * sides // (2 * scaled_sides), tf.int32), 0)
    factors = tf.cast(original, tf.float32) / tf.cast(scaled, tf.float32)
    source = (tf.cast(k, tf.float32) + 0.5) * factors[:, None] - 0.5
    first = tf.cast(tf.floor(source), tf.int32)
    rows = [tf.clip_by_value(one, 0, original[0] - 1) for one in (first[0], first[0] + 1)]
    # As bytes, and compiled: several times as fast as the kernels that resize. Columns cost by the pixel: each is
    # gathered once, with its right neighbour beside it, and before the rows, which are copied as a whole.
    pairs = tf.concat([tf.concat([image[:, :1], image], 1), tf.concat([image, image[:, -1:]], 1)], axis=-1)
    columns = tf.gather(pairs, tf.clip_by_value(first[1] + 1, 0, original[1]), axis=1)
    above, below = (tf.gather(columns, y) for y in rows)
    pixels = _mixed(above, below, source - tf.floor(source), tf.cast(is_there, tf.float32))
    mask = tf.gather(tf.gather(mask, nearest[1], axis=1), nearest[0])
    mask = tf.where(is_there[0][:, None] & is_there[1], mask, -1)
    return tf.ensure_shape(pixels, [size, size, 3]), tf.ensure_shape(mask, [size, size])


@tf.function(jit_compile=True)
def _mixed(above, below, shares, is_there):
    """The mean of four images by shares, float32 [size, size, 3] in [-1, 1].

    Args:
      above, below: uint8 [size, size, 6], the pixels at the left and at the right of each.
      shares: float32 [2, size], of the lower row and of the right column.
      is_there: float32 [2, size], 1 for rows and columns that are in the image, and 0 for others.
    """
    down, right = shares[0, :, None, None], shares[1, :, None]
    above, below = (_between(pair[..., :3], pair[..., 3:], right) for pair in (above, below))
    pixels = above + (below - above) * down
    return (pixels / 127.5 - 1) * is_there[0, :, None, None] * is_there[1, :, None]


def _between(first, second, share):
    first = tf.cast(first, tf.float32)
    return first + (tf.cast(second, tf.float32) - first) * share


def padded_size(size):
    """Returns `size`, integers, as the next multiples of MULTIPLE and 1."""
    return -(-(size - 1) // MULTIPLE) * MULTIPLE + 1


def pad(images, originals):
    """Returns a batch of images as the network takes it.

    Args:
      images: uint8 [batch, height, width, 3], padded at right and bottom.
      originals: int32 [batch, 2], height and width of each.

    Returns float32 [batch, padded height, padded width, 3] in [-1, 1], and 0 outside of the images; see `padded_size`.
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    is_image = inside(originals, height, width)[..., None]
    pixels = tf.where(is_image, tf.cast(images, tf.float32) / 127.5 - 1, 0.0)
    return tf.pad(pixels, [[0, 0], [0, padded_size(height) - height], [0, padded_size(width) - width], [0, 0]])


def inside(originals, height, width):
    """Returns which pixels of a padded batch are of its images, bool [batch, height, width].

    Args:
      originals: int32 [batch, 2], height and width of each image.
      height, width: of the batch, int32 [].
    """
    rows = tf.range(height) < originals[:, :1]
    columns = tf.range(width) < originals[:, 1:]
    return rows[:, :, None] & columns[:, None]
