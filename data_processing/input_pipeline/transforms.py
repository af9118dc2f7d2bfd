"""From an encoded image to the network's input: the training crop and its augmentation, and the evaluation crop.

All random numbers are stateless: an image's seed alone decides what happens to it.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from data_processing.images.image_files import MAX_PIXELS

# Evaluation scales the short side to a fixed length: an image of few pixels but one wide would become gigabytes.
MAX_ASPECT_RATIO = 100
ASPECT_RATIOS = (0.75, 1.33)
# Released code. In 100 attempts the whole image is almost never needed instead.
CROP_ATTEMPTS = 100
MAX_ROTATION = math.pi / 4
MAX_BRIGHTNESS = 32 / 255
SATURATION = CONTRAST = (0.5, 1.5)
MAX_HUE = 0.2
# Evaluation: an image's short side is 256 for a crop of 224, and in proportion for others.
SHORT_SIDE = 256 / 224


class Augmentation(NamedTuple):
    """How training images are augmented; see the flags of the same names. The defaults are the released pre-training's.

    Attributes:
      crop_min_area: smallest crop, as a share of the image's area (paper and fine-tuning: 0.05).
      crop_min_covered: share of the image that a crop must cover (fine-tuning: 0).
      rotated: share of the images that are rotated, with color jitter in order A.
      color_jitter: share of the images with color jitter, in order A or B; at least `rotated`. The release's comments
        say 1/4 and 1/2, its code does 1/3 and 2/3.
    """

    crop_min_area: float = 0.7
    crop_min_covered: float = 0.7
    rotated: float = 0.25
    color_jitter: float = 0.5


def training_image(encoded, image_size, seed, augmentation):
    """Returns a randomly cropped, flipped and augmented image, float32 [image_size, image_size, 3] in [-1, 1].

    Args:
      encoded: string [], a JPEG. Only the crop is decoded.
      image_size: height and width of the result, in pixels.
      seed: int32 or int64 [2].
      augmentation: an `Augmentation`.

    An image that is no JPEG, is truncated or has more than MAX_PIXELS is an error of the operation.
    """
    crop_seed, flip_seed, choice_seed, rotation_seed, color_seed = tf.unstack(tf.random.split(seed, 5))
    window = _random_window(_jpeg_shape(encoded), crop_seed, augmentation)
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.ensure_shape(tf.image.resize(image, [image_size, image_size]), [image_size, image_size, 3])
    image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    choice = tf.random.stateless_uniform([], choice_seed)
    colors = _random_colors(color_seed)

    def order_a():
        angle = tf.random.stateless_uniform([], rotation_seed, -MAX_ROTATION, MAX_ROTATION)
        return _jittered(rotate(image, angle), False, *colors)

    def others():
        in_order_b = choice < augmentation.color_jitter
        return tf.cond(in_order_b, lambda: _jittered(image, True, *colors), lambda: image / 127.5 - 1)

    return tf.cond(choice < augmentation.rotated, order_a, others)


def _jpeg_shape(encoded):
    """Height, width and channels from a JPEG's header, int32 [3]; an error if it is too large to decode."""
    shape = tf.io.extract_jpeg_shape(encoded)
    pixels = tf.reduce_prod(tf.cast(shape[:2], tf.int64))
    # In a graph an assertion holds back only what depends on it; decoding must not begin beside it.
    with tf.control_dependencies([tf.debugging.assert_less_equal(pixels, tf.constant(MAX_PIXELS, tf.int64))]):
        return tf.identity(shape)


def _random_window(shape, seed, augmentation):
    """A crop of an image of `shape`, int32 [3]: top, left, height, width, int32 [4]."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=augmentation.crop_min_covered,
        aspect_ratio_range=ASPECT_RATIOS,
        area_range=(augmentation.crop_min_area, 1.0),
        max_attempts=CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], axis=0)


def _random_colors(seed):
    """Brightness, saturation, hue and contrast for `color_jitter`."""
    draws = tf.random.stateless_uniform([4], seed)
    low = tf.constant([-MAX_BRIGHTNESS, SATURATION[0], -MAX_HUE, CONTRAST[0]])
    high = tf.constant([MAX_BRIGHTNESS, SATURATION[1], MAX_HUE, CONTRAST[1]])
    return tf.unstack(low + draws * (high - low))


# TensorFlow's kernels for saturation, hue and rotation cost more than the decoding of the image; compiled into loops,
# the same arithmetic costs a fraction of it. (benchmarks/input_pipeline.py)
@tf.function(jit_compile=True)
def _jittered(image, order_b, *colors):
    return tf.clip_by_value(color_jitter(image / 255, order_b, *colors), 0, 1) * 2 - 1


def color_jitter(image, order_b, brightness, saturation, hue, contrast):
    """Returns `image` with other colors, the same as by the functions of `tf.image`, in the order of the release.

    Args:
      image: float32 [height, width, 3], RGB, in [0, 1].
      order_b: whether in the order brightness, contrast, saturation, hue; otherwise brightness, saturation, hue,
        contrast.
      brightness: added, as in `tf.image.adjust_brightness`.
      saturation: factor, as in `tf.image.adjust_saturation`.
      hue: share of the color circle, in (-1, 1), as in `tf.image.adjust_hue`.
      contrast: factor, as in `tf.image.adjust_contrast`.
    """
    # Planes of one channel each, which the compiler turns into vector instructions.
    planes = tf.transpose(image, [2, 0, 1]) + brightness
    if order_b:
        planes = _adjust_saturation_and_hue(_adjust_contrast(planes, contrast), saturation, hue)
    else:
        planes = _adjust_contrast(_adjust_saturation_and_hue(planes, saturation, hue), contrast)
    return tf.transpose(planes, [1, 2, 0])


def _adjust_contrast(planes, factor):
    # First over rows, then over columns: a sum over both at once is one long chain of scalar additions.
    mean = tf.reduce_mean(tf.reduce_mean(planes, axis=1), axis=1)[:, None, None]
    return (planes - mean) * factor + mean


def _adjust_saturation_and_hue(planes, saturation, hue):
    """In HSV: saturation times a factor, at most 1, and hue shifted; without the way through HSV images."""
    red, green, blue = tf.unstack(planes)
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
    shifted = (sector + hue * 6)[None] + tf.constant([5.0, 3.0, 1.0])[:, None, None]
    shifted -= 6 * tf.floor(shifted / 6)
    return value - spread * tf.clip_by_value(tf.minimum(shifted, 4 - shifted), 0, 1)


@tf.function(jit_compile=True)
def rotate(image, angle):
    """Returns `image`, float32 [height, width, channels], rotated counter-clockwise about its centre.

    `angle` is in radians. Nearest neighbour, and black where there was nothing, as `tf.contrib.image.rotate` did.
    """
    height, width, channels = image.shape
    cos, sin = tf.cos(angle), tf.sin(angle)
    x = tf.range(width, dtype=tf.float32)[None, :] - (width - 1) / 2
    y = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2
    # Pixel (x, y) of the result is taken from where the inverse rotation puts it.
    column = tf.cast(tf.round(cos * x - sin * y + (width - 1) / 2), tf.int32)
    row = tf.cast(tf.round(sin * x + cos * y + (height - 1) / 2), tf.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = tf.where(inside, row * width + column, 0)
    return tf.where(inside[..., None], tf.gather(tf.reshape(image, [-1, channels]), place), 0.0)


def decode_jpeg(encoded):
    """Returns a whole JPEG as uint8 [height, width, 3], by the accurate method; an error if too large or damaged.

    One more than MAX_ASPECT_RATIO times as long as wide is an error too: see `evaluation_image`.
    """
    height, width, _ = tf.unstack(_jpeg_shape(encoded))
    longest = MAX_ASPECT_RATIO * tf.minimum(height, width)
    with tf.control_dependencies([tf.debugging.assert_less_equal(tf.maximum(height, width), longest)]):
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def evaluation_image(image, image_size, crop="center"):
    """Returns the evaluation crop of an image in [-1, 1], the input that published checkpoints were tested with.

    Args:
      image: uint8 [height, width, 3].
      image_size: height and width of the crop, in pixels: 224 means that the short side becomes 256 (bilinear,
        half-pixel centres, no antialias, rounded to 8 bits), and other sizes scale with it.
      crop: "center", or "10crop": the four corners and the centre, then the same mirrored.

    Returns:
      float32 [image_size, image_size, 3], or [10, image_size, image_size, 3].
    """
    short = round(SHORT_SIDE * image_size)
    height, width = tf.unstack(tf.shape(image)[:2])
    # The long side is cut to a whole number, not rounded (released code).
    height, width = short * height // tf.minimum(height, width), short * width // tf.minimum(height, width)
    image = tf.round(tf.image.resize(image, [height, width])) / 127.5 - 1
    bottom, right = height - image_size, width - image_size
    if crop == "center":
        return _crop(image, bottom // 2, right // 2, image_size)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = tf.stack([_crop(image, top, left, image_size) for top, left in corners])
    return tf.concat([crops, crops[:, :, ::-1]], axis=0)


def _crop(image, top, left, size):
    return tf.ensure_shape(image[top : top + size, left : left + size], [size, size, 3])
