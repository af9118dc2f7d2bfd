"""What a trained network of masks sees in images of any size: the class of each pixel, of large images by tiles.

A tile is of the padded image: it begins at a multiple of 64 pixels, and its sides are 64 k + 1. So the cells of all
tiles lie where those of the whole image do, and a network that looks at nothing else says the same in both.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import mask_transforms
from data_processing.input_pipeline.mask_transforms import MULTIPLE
from tasks import segmentation

# A tile that is not the whole image has twice the multiple at least, and shares a quarter with its neighbour.
SMALLEST = (2 * MULTIPLE + 1) ** 2
SHARED = 4


class Tiles(NamedTuple):
    """How a padded image is divided; one tile, where it is small.

    Attributes:
      height, width: of each tile, in pixels, 64 k + 1.
      tops, lefts: where rows and columns of tiles begin, from 0 on.
    """

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def tiles(size, max_pixels):
    """Returns the `Tiles` of an image of `size`, height and width in pixels, each of `max_pixels` pixels at most.

    Raises ValueError if these are fewer than SMALLEST, and the image has more.
    """
    whole = [(mask_transforms.padded_size(side) - 1) // MULTIPLE for side in size]
    if _pixels(*whole) <= max_pixels:
        units = whole
    elif max_pixels < SMALLEST:
        raise ValueError(f"--max_pixels={max_pixels} is less than a tile has; give {SMALLEST} or more")
    else:
        # As square as it goes: a shorter side leaves the other one more.
        side = _units(math.isqrt(max_pixels))
        width = min(whole[1], side)
        height = min(whole[0], _units(max_pixels // (width * MULTIPLE + 1)) if width < side else side)
        width = min(whole[1], _units(max_pixels // (height * MULTIPLE + 1)))
        units = (height, width)
    begins = [tuple(MULTIPLE * k for k in _begins(*pair)) for pair in zip(whole, units, strict=True)]
    return Tiles(*(unit * MULTIPLE + 1 for unit in units), *begins)


def _pixels(height, width):
    return (height * MULTIPLE + 1) * (width * MULTIPLE + 1)


def _units(pixels):
    return (pixels - 1) // MULTIPLE


def _begins(whole, tile):
    """Where tiles of a length begin in a whole, evenly spread; all in multiples."""
    if tile == whole:
        return [0]
    count = 1 + math.ceil((whole - tile) / (tile - max(1, tile // SHARED)))
    return [round(k * (whole - tile) / (count - 1)) for k in range(count)]


def weights(begins, length):
    """Returns the weights of tiles by place, float32 [tiles, length]; at each place of the whole their sum is 1.

    They fall towards a tile's ends, where it sees less of what is around, and so fade from one tile into the next.
    """
    hat = np.minimum(np.arange(length) + 1.0, length - np.arange(length))
    total = np.zeros(begins[-1] + length)
    for begin in begins:
        total[begin : begin + length] += hat
    return np.stack([hat / total[begin : begin + length] for begin in begins]).astype(np.float32)


def tiled(scores_of, image, divided, class_num):
    """Returns the class of each pixel of an image by the weighted means of its tiles' scores: int64 [height, width].

    It is -1 everywhere if a score is not finite. Besides the image, `class_num` floats are in memory for each pixel of
    a row of tiles.

    Args:
      scores_of: function from a tile, uint8 [h, w, 3], cut at the image's edge, to its scores: float32 array
        [`divided.height`, `divided.width`, class_num].
      image: uint8 [height, width, 3].
      divided: its `Tiles`.
      class_num: number of classes.
    """
    height, width = image.shape[:2]
    down, across = weights(divided.tops, divided.height), weights(divided.lefts, divided.width)
    means = np.zeros([divided.height, divided.lefts[-1] + divided.width, class_num], np.float32)
    found = np.zeros([height, width], np.int64)
    for k, top in enumerate(divided.tops):
        for left, weight in zip(divided.lefts, across, strict=True):
            tile = image[top : top + divided.height, left : left + divided.width]
            scores = scores_of(tile)
            if not np.isfinite(scores).all():
                return np.full([height, width], -1)
            means[:, left : left + divided.width] += scores * (down[k][:, None, None] * weight[:, None])
        # Of these rows, those above the next row of tiles are done.
        done = divided.tops[k + 1] - top if k + 1 < len(divided.tops) else divided.height
        rows = min(done, height - top)
        found[top : top + rows] = means[:rows, :width].argmax(axis=-1)
        means[: divided.height - done], means[divided.height - done :] = means[done:].copy(), 0
    return found


def transform(image):
    """Returns what `finder` takes of an image, uint8 [height, width, 3]: it is padded, and its own size beside it."""
    size = tf.shape(image)[:2]
    below = mask_transforms.padded_size(size) - size
    padded = tf.pad(image, [[0, below[0]], [0, below[1]], [0, 0]])
    return {"image": tf.ensure_shape(padded, [None, None, 3]), "original": size}


def finder(model, max_pixels, seen=segmentation.Views()):
    """Returns the function from a batch of `transform` to the class of each pixel, integer array [batch, h, w].

    Args:
      model: of `models.deeplab.build_deeplab`.
      max_pixels: that the network sees at once of an image; a larger one is seen in tiles.
      seen: the `tasks.segmentation.Views`.

    Of what is outside of an image the class means nothing. In an image of which a score is not finite it is -1.
    """
    class_num = model.output.shape[-1]
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 2], tf.int32)]

    @tf.function(input_signature=signature)
    def scores(images, originals):
        return segmentation.look(model, mask_transforms.pad(images, originals), seen)

    @tf.function(input_signature=signature)
    def classes(images, originals):
        found = scores(images, originals)
        finite = tf.reduce_all(tf.math.is_finite(found), axis=[1, 2, 3], keepdims=True)[..., 0]
        return tf.where(finite, tf.argmax(found, axis=-1, output_type=tf.int32), -1)

    def of_tile(tile, divided):
        below = [divided.height - tile.shape[0], divided.width - tile.shape[1]]
        padded = np.pad(tile, [(0, below[0]), (0, below[1]), (0, 0)])
        return scores(padded[None], np.array([tile.shape[:2]], np.int32))[0].numpy()

    def find(batch):
        images, originals = batch["image"], np.asarray(batch["original"])
        divided = tiles(images.shape[1:3], max_pixels)
        if len(divided.tops) * len(divided.lefts) == 1:
            return classes(images, originals).numpy()
        found = np.zeros(images.shape[:3], np.int32)
        for k, (height, width) in enumerate(originals):
            image = images[k, :height, :width].numpy()
            found[k, :height, :width] = tiled(lambda tile: of_tile(tile, divided), image, divided, class_num)
        return found

    return find
