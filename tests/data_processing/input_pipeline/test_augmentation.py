"""Rotation and color jitter, against TensorFlow's own operations and against NumPy."""

from matplotlib.colors import rgb_to_hsv
import numpy as np
import pytest
from scipy import stats
import tensorflow as tf

from data_processing.input_pipeline.augmentation import NEUTRAL, augmented, color_jitter, draw, rotate
from data_processing.input_pipeline.transforms import (
    Augmentation,
    training_crop,
    training_image,
)
from tests.photographs import PLAIN, jpeg, photograph, training_images


@pytest.mark.parametrize("rotated, color_jitter", [(0.25, 0.5), (1 / 3, 2 / 3), (0.0, 0.4), (1.0, 1.0), (0.3, 0.0)])
def test_shares_of_rotated_and_jittered(rotated, color_jitter):
    encoded = jpeg(photograph(48, 60))
    plain, only_a, only_b, images = (
        training_images(encoded, 32, 1000, Augmentation(0.7, 0.7, *shares))
        for shares in ((0, 0), (1, 1), (0, 1), (rotated, color_jitter))
    )
    is_plain, is_a, is_b = (np.all(images == other, axis=(1, 2, 3)) for other in (plain, only_a, only_b))
    assert np.all(is_plain ^ is_a ^ is_b)
    for count, share in (
        (is_a, rotated),
        (is_b, max(color_jitter - rotated, 0)),
        (is_plain, 1 - max(rotated, color_jitter)),
    ):
        assert stats.binomtest(int(count.sum()), 1000, share).pvalue > 1e-3
    assert images.min() >= -1 and images.max() <= 1


def test_rotation_is_counter_clockwise_and_comes_after_mirroring():
    images = np.zeros((2, 5, 5, 1), np.float32)
    images[:, 2, 4] = 1  # right of the centre
    above, below = rotate(tf.constant(images), tf.fill([2], np.float32(np.pi / 2)), tf.constant([False, True])).numpy()
    assert above[0, 2, 0] == 1 and above.sum() == 1
    assert below[4, 2, 0] == 1 and below.sum() == 1


@pytest.mark.parametrize("shape", [(32, 32, 3), (21, 40, 3), (40, 21, 1)])
@pytest.mark.parametrize("angle", [-0.7, -0.31, 0.0, 0.05, 0.4, np.pi / 4])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_takes_the_nearest_neighbour(shape, angle, mirrored):
    image = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    height, width = shape[:2]
    expected, exact = np.zeros(shape, np.float32), np.ones(shape[:2], bool)
    for row in range(height):
        for column in range(width):
            # Mathematical axes at the centre, y upwards: turn back by the angle to find the source.
            x, y = column - (width - 1) / 2, (height - 1) / 2 - row
            source = (x + 1j * y) * np.exp(-1j * angle)
            from_column, from_row = source.real + (width - 1) / 2, (height - 1) / 2 - source.imag
            exact[row, column] = all(abs(v % 1 - 0.5) > 1e-4 for v in (from_column, from_row))
            from_column, from_row = round(from_column), round(from_row)
            if 0 <= from_column < width and 0 <= from_row < height:
                expected[row, column] = (image[:, ::-1] if mirrored else image)[from_row, from_column]
    # In a batch, after another image.
    _, actual = rotate(
        tf.stack([image * 2, image]), tf.constant([1, angle], tf.float32), tf.constant([True, mirrored])
    ).numpy()
    assert exact.mean() > 0.9
    np.testing.assert_array_equal(actual[exact], expected[exact])


@pytest.mark.parametrize("order_b", [False, True])
def test_colors_are_those_of_tensorflow(order_b):
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(24, 20, 3)).astype(np.float32)
    image[0], image[1], image[2] = 0, 1, image[2, :, :1]  # black, white, grey
    image[3] = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)]  # pure colors
    images, jittered = [], []
    for _ in range(15):
        brightness, saturation = rng.uniform(-32 / 255, 32 / 255), rng.uniform(0.5, 1.5)
        hue, contrast = rng.uniform(-0.2, 0.2), rng.uniform(0.5, 1.5)
        expected = tf.image.adjust_brightness(image, brightness)
        if order_b:
            expected = tf.image.adjust_contrast(expected, contrast)
        expected = tf.image.adjust_hue(tf.image.adjust_saturation(expected, saturation), hue)
        if not order_b:
            expected = tf.image.adjust_contrast(expected, contrast)
        images.append(expected)
        jittered.append([brightness, contrast if order_b else 1, saturation, hue, 1 if order_b else contrast])
    factors = tf.constant(jittered, tf.float32)
    actual = color_jitter(tf.stack([image] * 15), *tf.unstack(factors, axis=1))
    np.testing.assert_allclose(actual, images, atol=1e-5)
    # The contrast that does nothing may be left out.
    brightness, contrast, saturation, hue, late_contrast = tf.unstack(factors, axis=1)
    only = (None, late_contrast) if not order_b else (contrast, None)
    alone = color_jitter(tf.stack([image] * 15), brightness, only[0], saturation, hue, only[1])
    np.testing.assert_allclose(alone, images, atol=1e-5)


@pytest.mark.parametrize("order_b", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_augmentations_come_in_the_order_of_the_release(order_b, seed):
    encoded, seed = jpeg(photograph(48, 60)), tf.constant([7, seed])
    *_, rotation_seed, color_seed = tf.unstack(tf.random.split(seed, 5))
    low, high = np.array([[-32 / 255, 0.5, -0.2, 0.5], [32 / 255, 1.5, 0.2, 1.5]])
    brightness, saturation, hue, contrast = low + tf.random.stateless_uniform([4], color_seed).numpy() * (high - low)
    expected = (training_image(encoded, 32, seed, PLAIN) + 1) / 2
    if not order_b:
        angle = tf.random.stateless_uniform([], rotation_seed, -np.pi / 4, np.pi / 4)
        expected = rotate(expected[None], angle[None], tf.constant([False]))[0]
    expected = tf.image.adjust_brightness(expected, brightness)
    if order_b:
        expected = tf.image.adjust_contrast(expected, contrast)
    expected = tf.image.adjust_hue(tf.image.adjust_saturation(expected, saturation), hue)
    if not order_b:
        expected = tf.image.adjust_contrast(expected, contrast)
    actual = training_image(encoded, 32, seed, Augmentation(0.7, 0.7, float(not order_b), 1.0))
    np.testing.assert_allclose(actual, tf.clip_by_value(expected, 0, 1) * 2 - 1, atol=1e-4)


@pytest.mark.parametrize("rotated, color_jitter", [(0.25, 0.5), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.2)])
def test_what_is_not_drawn_is_neutral(rotated, color_jitter):
    for number in range(40):
        seeds = tf.unstack(tf.random.split([7, number], 5)[1:])
        mirrored, choice = (float(tf.random.stateless_uniform([], seed)) for seed in seeds[:2])
        drawn = draw(seeds, rotated, color_jitter).numpy()
        is_a = choice < rotated
        is_b = not is_a and choice < color_jitter
        changed = [1, 2, 4, 5, 6] if is_a else [2, 3, 4, 5] if is_b else []
        assert drawn[0] == np.float32(mirrored) and list(np.flatnonzero(drawn[1:] != NEUTRAL[1:]) + 1) == changed


# A crop rounded to 8 bits is off by half a level. Colors are continuous and linear in parts: of a pixel's brightest
# channel minus up to 1.5 times differences of two channels, twice; then times a contrast of up to 1.5.
LEVEL = 2 / 255
MOST = {"plain": 0.5, "colors": 0.5 * (1 + 1.5 * 4) * 1.5}


@pytest.mark.parametrize("rotated, color_jitter, most", [(0, 0, "plain"), (0, 1, "colors"), (1, 1, "colors")])
def test_on_the_device_images_are_those_of_the_host(rotated, color_jitter, most):
    """In batches, but for the rounding of the crops to 8 bits."""
    augmentation = Augmentation(0.3, 0.3, rotated, color_jitter)
    encoded = [jpeg(photograph(120, 150, seed)) for seed in range(8)]
    host = [training_image(data, 64, [7, k], augmentation) for k, data in enumerate(encoded)]
    crops, drawn = zip(*[training_crop(data, 64, [7, k], augmentation) for k, data in enumerate(encoded)], strict=True)
    crops = tf.cast(tf.round(tf.stack(crops)), tf.uint8)
    device = augmented(crops, tf.stack(drawn)).numpy()
    assert device.dtype == np.float32
    levels = np.abs(device - np.stack(host)) / LEVEL
    assert 0.1 < levels.mean() < 0.5
    # Where a place is half-way between two pixels, either may be the nearest.
    assert np.mean(levels > MOST[most] + 0.01) <= (1e-3 if rotated else 0)
    # Whatever batch they come in.
    halves = [augmented(crops[k : k + 4], tf.stack(drawn[k : k + 4])) for k in (0, 4)]
    np.testing.assert_allclose(np.concatenate(halves), device, atol=1e-6)


def assert_uniform(values, low, high):
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


def test_ranges_of_brightness_saturation_and_hue():
    """An image of one color has no contrast, and in HSV shows the rest one by one."""
    encoded = jpeg(np.full((40, 40, 3), (150, 110, 90), np.uint8))
    (before,) = rgb_to_hsv((training_images(encoded, 32, 1, PLAIN)[:, 16, 16] + 1) / 2)
    jittered = training_images(encoded, 32, 1000, Augmentation(rotated=0.0, color_jitter=1.0))
    after = rgb_to_hsv((jittered[:, 16, 16] + 1) / 2)
    assert_uniform((after[:, 0] - before[0] + 0.5) % 1 - 0.5, -0.2, 0.2)
    assert_uniform(after[:, 1] * after[:, 2] / (before[1] * before[2]), 0.5, 1.5)
    assert_uniform(after[:, 2] - before[2], -32 / 255, 32 / 255)


def test_ranges_of_contrast_and_angle():
    """A grey ramp has no saturation or hue; its steepness is the contrast and its direction the angle."""
    encoded = jpeg(np.tile(np.linspace(100, 156, 60).astype(np.uint8)[None, :, None], (60, 1, 3)))
    plain, order_a, order_b = (
        training_images(encoded, 48, 1000, Augmentation(rotated=share, color_jitter=color_jitter))[..., 0]
        for share, color_jitter in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    )
    assert_uniform(np.ptp(order_b, axis=(1, 2)) / np.ptp(plain, axis=(1, 2)), 0.5, 1.5)
    y, x = np.mgrid[-23.5:24, -23.5:24]
    disc = x**2 + y**2 < 15**2
    along_x, along_y = order_a[:, disc] @ x[disc], order_a[:, disc] @ -y[disc]
    assert_uniform(np.arctan(along_y / along_x), -np.pi / 4, np.pi / 4)
