"""Rotation and color jitter, against TensorFlow's own operations and against NumPy."""

from matplotlib.colors import rgb_to_hsv
import numpy as np
import pytest
from scipy import stats
import tensorflow as tf

from data_processing.input_pipeline import transforms
from data_processing.input_pipeline.transforms import (
    Augmentation,
    color_jitter,
    rotate,
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


def test_rotation_is_counter_clockwise():
    image = np.zeros((5, 5, 1), np.float32)
    image[2, 4] = 1  # right of the centre
    turned = rotate(tf.constant(image), tf.constant(np.pi / 2, tf.float32)).numpy()
    assert turned[0, 2, 0] == 1 and turned.sum() == 1  # above it


@pytest.mark.parametrize("shape", [(32, 32, 3), (21, 40, 3), (40, 21, 1)])
@pytest.mark.parametrize("angle", [-0.7, -0.31, 0.0, 0.05, 0.4, np.pi / 4])
def test_rotation_takes_the_nearest_neighbour(shape, angle):
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
                expected[row, column] = image[from_row, from_column]
    actual = rotate(tf.constant(image), tf.constant(angle, tf.float32)).numpy()
    assert exact.mean() > 0.9
    np.testing.assert_array_equal(actual[exact], expected[exact])


@pytest.mark.parametrize("order_b", [False, True])
def test_colors_are_those_of_tensorflow(order_b):
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(24, 20, 3)).astype(np.float32)
    image[0], image[1], image[2] = 0, 1, image[2, :, :1]  # black, white, grey
    image[3] = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)]  # pure colors
    for _ in range(15):
        brightness, saturation = rng.uniform(-32 / 255, 32 / 255), rng.uniform(0.5, 1.5)
        hue, contrast = rng.uniform(-0.2, 0.2), rng.uniform(0.5, 1.5)
        expected = tf.image.adjust_brightness(image, brightness)
        if order_b:
            expected = tf.image.adjust_contrast(expected, contrast)
        expected = tf.image.adjust_hue(tf.image.adjust_saturation(expected, saturation), hue)
        if not order_b:
            expected = tf.image.adjust_contrast(expected, contrast)
        actual = color_jitter(tf.constant(image), order_b, brightness, saturation, hue, contrast)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("order_b", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_augmentations_come_in_the_order_of_the_release(order_b, seed):
    encoded, seed = jpeg(photograph(48, 60)), tf.constant([7, seed])
    *_, rotation_seed, color_seed = tf.unstack(tf.random.split(seed, 5))
    brightness, saturation, hue, contrast = transforms._random_colors(color_seed)
    expected = (training_image(encoded, 32, seed, PLAIN) + 1) / 2
    if not order_b:
        angle = tf.random.stateless_uniform([], rotation_seed, -np.pi / 4, np.pi / 4)
        expected = rotate(expected, angle)
    expected = tf.image.adjust_brightness(expected, brightness)
    if order_b:
        expected = tf.image.adjust_contrast(expected, contrast)
    expected = tf.image.adjust_hue(tf.image.adjust_saturation(expected, saturation), hue)
    if not order_b:
        expected = tf.image.adjust_contrast(expected, contrast)
    actual = training_image(encoded, 32, seed, Augmentation(0.7, 0.7, float(not order_b), 1.0))
    np.testing.assert_allclose(actual, tf.clip_by_value(expected, 0, 1) * 2 - 1, atol=1e-4)


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
