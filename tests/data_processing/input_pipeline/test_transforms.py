"""Crops, flips and the evaluation crop, against TensorFlow's own operations and against NumPy."""

import io

import numpy as np
from PIL import Image
import pytest
from scipy import stats
import tensorflow as tf

from data_processing.input_pipeline import transforms
from data_processing.input_pipeline.transforms import (
    Augmentation,
    decode_jpeg,
    evaluation_image,
    training_image,
)
from tests.photographs import PLAIN, jpeg, photograph, training_images

WINDOWS = 4000


def windows(shape, augmentation):
    def one(seed):
        return transforms._random_window(tf.constant(shape), tf.stack([3, seed]), augmentation)

    seeds = tf.data.Dataset.range(WINDOWS).map(lambda k: tf.cast(k, tf.int32))
    return next(seeds.map(one).batch(WINDOWS).as_numpy_iterator())


def reference_windows(shape, augmentation):
    def one(_):
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.constant(shape),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=5,
            min_object_covered=augmentation.crop_min_covered,
            aspect_ratio_range=(0.75, 1.33),
            area_range=(augmentation.crop_min_area, 1.0),
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], axis=0)

    return next(tf.data.Dataset.range(WINDOWS).map(one).batch(WINDOWS).as_numpy_iterator())


@pytest.mark.parametrize("shape", [(375, 500, 3), (500, 375, 3), (300, 300, 3)])
@pytest.mark.parametrize("augmentation", [PLAIN, Augmentation(0.05, 0.0)])
def test_windows_are_inside_and_have_the_distribution_of_the_release(shape, augmentation):
    sampled = windows(shape, augmentation)
    top, left, height, width = sampled.T
    assert np.all((top >= 0) & (left >= 0) & (height > 0) & (width > 0))
    assert np.all((top + height <= shape[0]) & (left + width <= shape[1]))
    share = height * width / (shape[0] * shape[1])
    # The sides are whole pixels, which moves area and aspect by less than one pixel in each direction.
    slack = 1 / height + 1 / width
    assert np.all(share * (1 + slack) >= max(augmentation.crop_min_area, augmentation.crop_min_covered))
    assert np.all((width / height >= 0.75 * (1 - slack)) & (width / height <= 1.33 * (1 + slack)))
    # Scattered over what is possible, and as the operation of the release draws them.
    assert share.min() < augmentation.crop_min_area + 0.05 and top.min() == left.min() == 0
    expected = reference_windows(shape, augmentation)
    for name, ours, theirs in zip(("top", "left", "height", "width"), sampled.T, expected.T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3, name


@pytest.mark.parametrize("seed", range(8))
def test_crop_is_what_decoding_whole_and_slicing_gives(seed):
    encoded = jpeg(photograph(250, 330))
    seed = tf.constant([7, seed])
    crop_seed, flip_seed, *_ = tf.unstack(tf.random.split(seed, 5))
    top, left, height, width = transforms._random_window((250, 330, 3), crop_seed, PLAIN).numpy()
    whole = tf.io.decode_jpeg(encoded, dct_method="INTEGER_FAST")
    expected = tf.image.resize(whole[top : top + height, left : left + width], [96, 96]) / 127.5 - 1
    expected = tf.image.stateless_random_flip_left_right(expected, flip_seed).numpy()
    actual = training_image(encoded, 96, seed, PLAIN._replace(scaled_decode=False)).numpy()
    assert actual.shape == (96, 96, 3) and actual.dtype == np.float32
    # At the borders of the crop the decoder has no neighbours to interpolate the half-size color planes from.
    np.testing.assert_allclose(actual[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)
    assert np.abs(actual - expected).mean() < 1e-3


@pytest.mark.parametrize("side", [200, 199, 100, 67, 50, 38, 25, 5])
@pytest.mark.parametrize("height, width", [(300, 401), (263, 517)])
def test_a_window_is_decoded_at_the_ratio_that_leaves_enough(height, width, side):
    """Against Pillow, which decodes whole images at these ratios; at the window in the smaller one."""
    encoded = jpeg(photograph(height, width), subsampling=0)
    for top, left, tall, wide in ((0, 0, height, width), (31, 17, 200, 211), (height - 203, width - 200, 203, 200)):
        ratio = max(ratio for ratio in (1, 2, 4, 8) if ratio * side <= min(tall, wide))
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (width // ratio, height // ratio))
            whole = np.asarray(image).astype(int)
        assert whole.shape[:2] == (-(-height // ratio), -(-width // ratio))
        y, bottom, x, right = (int(place / ratio + 0.5) for place in (top, top + tall, left, left + wide))
        crop = transforms._decode_window(encoded, tf.constant([top, left, tall, wide]), side).numpy()
        assert crop.shape == (bottom - y, right - x, 3) and min(crop.shape[:2]) >= side
        np.testing.assert_allclose(crop, whole[y:bottom, x:right], atol=5)


@pytest.mark.parametrize("image_size, ratio", [(250, 1), (190, 2), (95, 4), (47, 8)])
def test_scaled_decoding_shows_the_same_region(image_size, ratio):
    """Of an image whose red and green are the places of its pixels; and a photograph looks much the same."""
    height, width = 480, 641
    y, x = np.mgrid[:height, :width]
    places = jpeg(np.stack([x * 255 / width, y * 255 / height, 0 * x], axis=-1).astype(np.uint8), subsampling=0)
    # The decoder's fast method makes a ramp darker by about a level in full size, not in the smaller ones.
    bias = np.subtract(*[np.mean(tf.io.decode_jpeg(places, ratio=one), axis=(0, 1)) for one in (1, ratio)])

    def both(data, number):
        ways = [PLAIN._replace(scaled_decode=way) for way in (False, True)]
        return [(training_image(data, image_size, [7, number], way).numpy() + 1) * 127.5 for way in ways]

    for number in range(3):  # of crops whose shorter side is 402 to 480 pixels
        whole, scaled = both(places, number)
        assert np.all(whole == scaled) == (ratio == 1)
        # Within a pixel of the smaller image at each end; measured by lines through columns and through rows.
        for channel, side in ((0, width), (1, height)):
            profiles = [np.mean(one[..., channel], axis=channel) for one in (whole - bias, scaled)]
            lines = [np.polyfit(np.arange(image_size), profile, 1) for profile in profiles]
            ends = [np.polyval(line, [0, image_size - 1]) * side / 255 for line in lines]
            np.testing.assert_allclose(*ends, atol=ratio)
        assert np.abs(np.subtract(*both(jpeg(photograph(height, width)), number))).mean() < 4


def test_half_are_flipped():
    encoded = jpeg(np.tile(np.linspace(0, 255, 60).astype(np.uint8)[None, :, None], (60, 1, 3)))
    images = training_images(encoded, 32, 1000, PLAIN)
    flipped = images[:, 16, 0, 0] > images[:, 16, -1, 0]
    assert stats.binomtest(int(flipped.sum()), 1000, 0.5).pvalue > 1e-3


def test_same_seed_same_image():
    encoded = jpeg(photograph(48, 60))
    first, second = (training_images(encoded, 32, 30, Augmentation()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len({image.tobytes() for image in first}) == 30
    alone = training_image(encoded, 32, tf.constant([7, 11], tf.int64), Augmentation())
    np.testing.assert_allclose(alone, first[11], atol=1e-6)


def with_size(encoded, height, width):
    """A JPEG whose header says another size."""
    data = bytearray(encoded)
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_oversized_images_are_refused_before_decoding(capfd):
    encoded = jpeg(photograph(40, 40))
    for function in (decode_jpeg, lambda data: training_image(data, 32, [1, 2], PLAIN)):
        function = tf.function(function, input_signature=[tf.TensorSpec([], tf.string)])
        # The decoder, once it has begun, says on standard error that the data ends too early, and continues in grey.
        function(with_size(encoded, 80, 80))
        assert "premature end" in capfd.readouterr().err
        for _ in range(3):
            with pytest.raises(tf.errors.InvalidArgumentError):
                function(with_size(encoded, 10_000, 5_001))
        assert "premature end" not in capfd.readouterr().err


def test_an_image_that_would_be_evaluated_as_gigabytes_is_refused():
    assert decode_jpeg(jpeg(photograph(2, 200))).shape == (2, 200, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_jpeg(jpeg(photograph(201, 2)))


@pytest.mark.parametrize("data", [b"", b"<html></html>", jpeg(photograph(90, 90))[:200], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_jpeg_is_an_error(data):
    for function in (decode_jpeg, lambda data: training_image(data, 32, [1, 2], Augmentation())):
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.function(function)(tf.constant(data))


@pytest.mark.parametrize("mode, options", [("L", {}), ("RGB", {"progressive": True}), ("CMYK", {})])
def test_jpegs_of_other_kinds(mode, options):
    pixels = photograph(80, 100)
    encoded = jpeg(pixels, mode, **options)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_allclose(decode_jpeg(encoded).numpy().astype(int), expected, atol=4)
    image = training_image(encoded, 64, [1, 2], PLAIN).numpy()
    assert image.shape == (64, 64, 3)
    mean = (image.mean(axis=(0, 1)) + 1) * 127.5
    np.testing.assert_allclose(mean, expected.mean(axis=(0, 1)), atol=15)


def bilinear(image, height, width):
    """Half-pixel centres, no antialias, by the definition; float64."""
    image = image.astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        place = np.clip((np.arange(size) + 0.5) * image.shape[axis] / size - 0.5, 0, image.shape[axis] - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (place - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image


def levels(image):
    return np.rint((np.asarray(image, np.float64) + 1) * 127.5)


@pytest.mark.parametrize("height, width", [(300, 401), (401, 300), (256, 256), (90, 143), (511, 700)])
@pytest.mark.parametrize("image_size, short", [(224, 256), (299, 342), (64, 73)])
def test_evaluation_crop_against_numpy(height, width, image_size, short):
    image = photograph(height, width)
    new_height, new_width = (int(short * side / min(height, width)) for side in (height, width))
    top, left = int((new_height - image_size) / 2), int((new_width - image_size) / 2)
    resized = bilinear(image, new_height, new_width)[top : top + image_size, left : left + image_size]
    actual = evaluation_image(tf.constant(image), image_size).numpy()
    assert actual.shape == (image_size, image_size, 3) and actual.dtype == np.float32
    # A value half-way between two levels may be rounded to either, by float32 or float64.
    clear = np.abs(resized % 1 - 0.5) > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(levels(actual)[clear], np.rint(resized)[clear])
    np.testing.assert_allclose(actual, levels(actual) / 127.5 - 1, atol=1e-6)


def test_ten_crops_in_order():
    image = photograph(300, 450)
    crops = evaluation_image(tf.constant(image), 64, "10crop").numpy()
    assert crops.shape == (10, 64, 64, 3)
    whole = np.rint(bilinear(image, 73, 109))
    corners = [(0, 0), (0, 45), (9, 0), (9, 45), (4, 22)]
    for crop, mirrored, (top, left) in zip(crops[:5], crops[5:], corners, strict=True):
        expected = whole[top : top + 64, left : left + 64]
        assert np.mean(levels(crop) != expected) < 0.01
        np.testing.assert_array_equal(mirrored, crop[:, ::-1])
    np.testing.assert_array_equal(crops[4], evaluation_image(tf.constant(image), 64))
