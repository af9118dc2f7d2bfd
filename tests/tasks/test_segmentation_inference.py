"""Large images by tiles: the whole image's classes where the network looks at nothing else, and no seams."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline import mask_transforms
from tasks import segmentation_inference
from tasks.segmentation import Views, look
from tasks.segmentation_inference import SMALLEST, tiles, weights

STRIDE, CLASSES = 16, 5


class Pointwise:
    """A network whose cells see one pixel each: so its logits are a function of the image's content alone."""

    output = keras.Input([None, None, CLASSES])

    def __init__(self):
        self.kernel = tf.constant(np.random.default_rng(0).normal(size=[3, CLASSES]), tf.float32)
        self.largest = 0

    def __call__(self, images, training):
        assert not training
        sides = tf.shape(images)
        tf.debugging.assert_equal(sides[1:3] % 64, 1)
        return tf.sin(3 * images[:, ::STRIDE, ::STRIDE] @ self.kernel)


def image_of(height, width):
    """Waves, so that logits differ everywhere."""
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(x + 2 * y), np.cos(2 * x - y), np.sin(x * y / 3)], axis=-1)
    return np.round(127.5 + 127 * waves).astype(np.uint8)


def classes_of(network, image, max_pixels):
    batch = {name: value[None] for name, value in segmentation_inference.transform(tf.constant(image)).items()}
    height, width = image.shape[:2]
    return segmentation_inference.finder(network, max_pixels)(batch)[0, :height, :width]


@pytest.mark.parametrize("size", [(300, 420), (513, 130), (1, 900), (700, 3), (641, 640), (129, 129)])
@pytest.mark.parametrize("max_pixels", [SMALLEST, 60_000, 193 * 193, 200_000])
def test_tiles_cover_an_image_and_keep_to_the_limit(size, max_pixels):
    divided = tiles(size, max_pixels)
    padded = [int(mask_transforms.padded_size(side)) for side in size]
    assert divided.height * divided.width <= max_pixels
    for begins, length, whole in zip(divided[2:], divided[:2], padded, strict=True):
        assert begins[0] == 0 and begins[-1] + length == whole and length % 64 == 1
        assert all(begin % 64 == 0 for begin in begins)
        steps = np.diff(begins)
        assert (steps > 0).all() and (steps <= length - 1 - max(64, (length - 1) // 64 // 4 * 64)).all()
        total = np.zeros(whole)
        for begin, row in zip(begins, weights(begins, length), strict=True):
            total[begin : begin + length] += row
            assert np.abs(np.diff(row)).max(initial=0) < 0.04
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_whole_image_is_one_tile():
    assert tiles((300, 420), 321 * 449) == (321, 449, (0,), (0,))
    assert len(tiles((300, 420), 321 * 449 - 1).lefts) > 1
    with pytest.raises(ValueError, match=f"^--max_pixels=16640 is less than a tile has; give {SMALLEST} or more"):
        tiles((300, 420), SMALLEST - 1)
    assert tiles((60, 60), 65 * 65) == (65, 65, (0,), (0,))


@pytest.mark.parametrize("size", [(300, 420), (500, 100), (90, 700), (640, 641)])
def test_tiles_give_what_the_whole_image_gives(size):
    image, network = image_of(*size), Pointwise()
    padded = mask_transforms.pad(tf.constant(image[None]), tf.constant([size]))
    scores = look(network, padded)[0, : size[0], : size[1]].numpy()
    whole = classes_of(network, image, 10**7)
    np.testing.assert_array_equal(whole, scores.argmax(-1))
    assert len(np.unique(whole)) == CLASSES
    for max_pixels in (SMALLEST, 60_000):
        found = classes_of(network, image, max_pixels)
        # Sums of two roundings may decide between two classes of one score.
        best = np.take_along_axis(scores, found[..., None], -1)[..., 0]
        np.testing.assert_allclose(best, scores.max(-1), atol=1e-5)
        assert (found == whole).mean() > 0.9999


def test_scores_at_seams_are_weighted_means():
    """Tiles that disagree: each says its own number; the sums pass from one to the next without a jump."""
    divided, said = tiles((129, 500), SMALLEST), []
    assert len(divided.lefts) > 2

    def scores_of(tile):
        said.append(float(len(said)))
        return np.stack([np.full([129, 129], said[-1]), np.full([129, 129], 0.5)], axis=-1).astype(np.float32)

    found = segmentation_inference.tiled(scores_of, np.zeros([129, 500, 3], np.uint8), divided, 2)
    # The first tile says 0 and the second 1: where the second has more than half of the weight, class 0 is right.
    assert found.min() == 0 and found.max() == 1 and (np.diff(found, axis=1) <= 0).all()
    (seam,) = np.flatnonzero(np.diff(found[0]))
    assert divided.lefts[1] < seam < 129
    assert abs(seam - (divided.lefts[1] + 128) / 2) <= 1


def test_scores_that_are_not_finite():
    network = Pointwise()
    network.kernel = network.kernel * np.nan
    for max_pixels in (10**6, SMALLEST):
        assert (classes_of(network, image_of(200, 200), max_pixels) == -1).all()


def test_views_are_those_of_evaluation():
    image, network = image_of(100, 140), Pointwise()
    seen = Views((1.0, 2.0), True)
    batch = {name: value[None] for name, value in segmentation_inference.transform(tf.constant(image)).items()}
    found = segmentation_inference.finder(network, 10**6, seen)(batch)[0]
    padded = mask_transforms.pad(batch["image"], batch["original"])
    expected = tf.argmax(look(network, padded, seen), -1)[0].numpy()
    assert (found == expected).mean() > 0.999
