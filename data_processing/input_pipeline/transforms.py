"""From an encoded image to the network's input: the training crop, and the evaluation crop.

All random numbers are stateless: an image's seed alone decides what happens to it.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from data_processing.images.image_files import MAX_PIXELS
from data_processing.input_pipeline.augmentation import augmented_alone, draw

# Evaluation scales the short side to a fixed length: an image of few pixels but one wide would become gigabytes.
MAX_ASPECT_RATIO = 100
ASPECT_RATIOS = (0.75, 1.33)
# Released code. In 100 attempts the whole image is almost never needed instead.
CROP_ATTEMPTS = 100
# What a JPEG can be shrunk by while it is decoded, for less than the decoding of all its pixels costs.
RATIOS = (1, 2, 4, 8)
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
      augment_on: "host" or "device", where images are mirrored, rotated and jittered, see `augmentation.py`.
      scaled_decode: whether crops of at least twice the size wanted are decoded at 1/2, 1/4 or 1/8 of theirs.
    """

    crop_min_area: float = 0.7
    crop_min_covered: float = 0.7
    rotated: float = 0.25
    color_jitter: float = 0.5
    augment_on: str = "host"
    scaled_decode: bool = True


def training_crop(encoded, image_size, seed, augmentation):
    """Returns a random crop of an image, and what is to become of it.

    Args:
      encoded: string [], a JPEG. Only the crop is decoded.
      image_size: height and width of the result, in pixels.
      seed: int32 or int64 [2].
      augmentation: an `Augmentation`.

    Returns:
      float32 [image_size, image_size, 3] in [0, 255], and float32 [augmentation.DRAWN], see `augmentation.draw`.

    An image that is no JPEG, is truncated or has more than MAX_PIXELS is an error of the operation.
    """
    crop_seed, *others = tf.unstack(tf.random.split(seed, 5))
    window = _random_window(_jpeg_shape(encoded), crop_seed, augmentation)
    image = _decode_window(encoded, window, image_size if augmentation.scaled_decode else None)
    image = tf.ensure_shape(tf.image.resize(image, [image_size, image_size]), [image_size, image_size, 3])
    return image, draw(others, augmentation.rotated, augmentation.color_jitter)


def training_image(encoded, image_size, seed, augmentation):
    """Returns a cropped, mirrored and augmented image, float32 [image_size, image_size, 3] in [-1, 1].

    Args and errors as of `training_crop`.
    """
    return augmented_alone(*training_crop(encoded, image_size, seed, augmentation))


def _decode_window(encoded, window, least=None):
    """Returns a window of a JPEG, int32 [4], as uint8 [height, width, 3], in full size or, if not below `least`, less.

    In a smaller image the window's sides are rounded to its pixels, of which each is the mean of what it stands for.
    """

    if least is None:
        return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    fitting = tf.reduce_sum(tf.cast(tf.reduce_min(window[2:]) >= least * tf.constant(RATIOS[1:]), tf.int32))
    ratio = tf.gather(RATIOS, fitting)
    begin, end = ((place + ratio // 2) // ratio for place in (window[:2], window[:2] + window[2:]))
    window = tf.concat([begin, end - begin], axis=0)
    # The ratio is an attribute of the operation: nothing but it is in the branches, each of which costs a little.
    decode = functools.partial(tf.io.decode_and_crop_jpeg, encoded, window, channels=3)
    return tf.switch_case(fitting, [functools.partial(decode, ratio=ratio) for ratio in RATIOS])


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
