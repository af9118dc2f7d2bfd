"""A tiny detector, and what it finds in images by NumPy's resizing and one call of `detect` for each, for two tests."""

import numpy as np
import tensorflow as tf

from models import checkpoint
from models.faster_rcnn import DetectorConfig, build_detector

NAMES = ["cat", 'dog, "é"', "person"]
SHORT, LONG = 64, 110
ANCHORS = (16, 32)
PROPOSALS = 100
# Of the weights, times the root of a layer's inputs: so that scores are not all alike, and boxes not the anchors.
DEVIATIONS = {"rpn/conv/": 2.0, "rpn/objectness/": 2.0, "rpn/offsets/": 0.2, "regions/classes/": 20.0}
DEVIATIONS |= {"regions/offsets/": 1.0}


def detector(seed=3, proposals=PROPOSALS):
    """One of random weights, large enough for scores all over [0, 1] and boxes unlike the anchors."""
    made = build_detector(10, len(NAMES), config=DetectorConfig(ANCHORS, 32, proposals))
    rng = np.random.default_rng(seed)
    for name, variable in checkpoint.model_variables(made.model).items():
        for scope, deviation in DEVIATIONS.items():
            if name.startswith(scope) and name.endswith("/kernel"):
                variable.assign(rng.normal(size=variable.shape) * deviation / np.sqrt(np.prod(variable.shape[:-1])))
    return made


def save(folder, **options):
    """Saves `detector`; returns it and the checkpoint's prefix."""
    made = detector(**options)
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(NAMES))
    said = checkpoint.Metadata("boxes", "detection", SHORT, names, ",".join(map(str, ANCHORS)), LONG)
    return made, checkpoint.save(folder, 7, checkpoint.model_variables(made.model), 1, said)


def pixels(height, width, seed):
    """Tiles of 8 x 8 pixels, RGB uint8."""
    tiles = np.random.default_rng(seed).integers(0, 256, [-(-height // 8), -(-width // 8), 3], dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def resized(image, height, width):
    """Bilinear, half-pixel centres, by NumPy."""
    for axis, size in ((0, height), (1, width)):
        old = image.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high, share = np.minimum(low + 1, old - 1), at - low
        share = share[:, None, None] if axis == 0 else share[:, None]
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image


def found_in(made, image):
    """Boxes in the image's own pixels, scores and classes of what the detector finds in it, the likeliest first."""
    sides = np.array(image.shape[:2])
    size = np.round(sides * min(SHORT / sides.min(), LONG / sides.max())).astype(int)
    padded = np.zeros([1, *(-(-size // 64) * 64), 3], np.float32)
    padded[0, : size[0], : size[1]] = resized(image.astype(np.float64), *size) / 127.5 - 1
    found = {
        name: value.numpy()[0]
        for name, value in made.detect(tf.constant(padded), tf.constant([size], tf.int32)).items()
    }
    there = found["classes"] >= 0
    scale = (size / sides)[[1, 0, 1, 0]]
    return found["boxes"][there] / scale, found["scores"][there], found["classes"][there]


def assert_same(actual, expected, most_off=0.01):
    """That two triples of boxes, scores and classes hold the same objects, but for one of twenty.

    Of thousands of overlaps that suppression compares with its limit, one or the other is so near to it that another
    order of additions decides otherwise.
    """
    assert abs(len(actual[0]) - len(expected[0])) <= 0.05 * len(expected[0])
    left, found = list(zip(*actual, strict=True)), 0
    for box, score, index in zip(*expected, strict=True):
        for k, (other_box, other_score, other_index) in enumerate(left):
            off = np.abs(np.subtract(other_box, box)).max()
            if other_index == index and abs(other_score - score) < 1e-4 and off < most_off:
                left.pop(k)
                found += 1
                break
    assert found >= 0.95 * len(expected[0]) and found > 0
