"""Images and masks through crop, scale and flip: coordinates drawn into both stay together."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.input_pipeline import mask_transforms

SIZE = 97


def encoded(pixels, kind="PNG", mode=None):
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, kind, quality=100)
    return file.getvalue()


def drawn(height, width):
    """An image whose red and green are its row and column, and a mask whose class is 256 x row + column."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.full_like(rows, 200)], axis=-1)
    return image.astype(np.uint8), (256 * rows + columns).astype(np.int32)


crop = tf.function(mask_transforms.random_crop, input_signature=None)


@pytest.mark.parametrize("shape", [(140, 190), (230, 60), (40, 33), (1, 200)])
def test_coordinates_drawn_into_both_stay_together(shape):
    image, mask = drawn(*shape)
    seen, offsets, mirrored = [], [], set()
    for k in range(25):
        pixels, classes = crop(image, mask, SIZE, tf.constant([7, k], tf.int64))
        pixels, classes = pixels.numpy(), classes.numpy()
        assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.float32
        assert classes.shape == (SIZE, SIZE) and classes.dtype == np.int32
        inside = classes >= 0
        # Outside both are padding, and inside the third channel says that none of it is.
        np.testing.assert_array_equal(pixels[~inside], 0)
        np.testing.assert_allclose(pixels[inside][:, 2], 200 / 127.5 - 1, atol=1e-5)
        rows, columns = np.divmod(classes, 256)
        found = (pixels[..., :2] + 1) * 127.5
        # Between two pixels the nearest is at most half of one away, in both directions.
        assert np.abs(found[..., 0] - rows)[inside].max() <= 0.5 + 1e-3
        assert np.abs(found[..., 1] - columns)[inside].max() <= 0.5 + 1e-3
        offsets.append([(found[..., 0] - rows)[inside].mean(), (found[..., 1] - columns)[inside].mean()])
        seen.append(inside.mean())
        along = columns[inside.any(axis=1)][0, inside.any(axis=0)]
        mirrored.add(bool(along[0] > along[-1]))
    # On the whole neither lies to one side of the other.
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.06
    assert mirrored == {True, False} and max(seen) > (0.2 if min(shape) > 30 else 0)


def test_a_crop_follows_from_its_seed():
    image, mask = drawn(120, 90)
    first, again, other = (crop(image, mask, 65, tf.constant(seed, tf.int64)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1].numpy() != other[1].numpy()).any()


def test_crops_are_of_all_scales_and_places():
    image, mask = drawn(200, 200)
    widths, corners = [], []
    for k in range(60):
        classes = crop(image, mask, SIZE, tf.constant([0, k], tf.int64))[1].numpy()
        rows = np.unique(classes[classes >= 0] // 256)
        widths.append(SIZE / (rows[-1] - rows[0] + 1))
        corners.append(rows[0] / 200)
    assert 0.48 < min(widths) < 0.6 and 1.8 < max(widths) < 2.1
    assert min(corners) < 0.05 and max(corners) > 0.5


@pytest.mark.parametrize(("scaled", "begin"), [((37, 53), (0, 0)), ((80, 20), (11, -7)), ((61, 90), (-20, 33))])
def test_a_window_is_that_of_a_resized_image(scaled, begin):
    rng = np.random.default_rng(3)
    image, mask = rng.integers(0, 256, (41, 67, 3), np.uint8), rng.integers(-1, 21, (41, 67), np.int32)
    whole = tf.image.resize(image, scaled) / 127.5 - 1
    nearest = tf.image.resize(mask[..., None], scaled, "nearest")[..., 0]
    expected = np.zeros((SIZE, SIZE, 3), np.float32), np.full((SIZE, SIZE), -1)
    for row in range(SIZE):
        for column in range(SIZE):
            y, x = row + begin[0], column + begin[1]
            if 0 <= y < scaled[0] and 0 <= x < scaled[1]:
                expected[0][row, column], expected[1][row, column] = whole[y, x], nearest[y, x]
    pixels, classes = mask_transforms.scaled_window(image, mask, tf.constant(scaled), tf.constant(begin), SIZE)
    np.testing.assert_allclose(pixels, expected[0], atol=2e-4)
    np.testing.assert_array_equal(classes, expected[1])


def test_decode():
    image, mask = drawn(30, 40)
    mask = (mask % 21).astype(np.uint8)
    mask[3, 5] = 255  # void
    example = {"image": encoded(image, "JPEG"), "mask": encoded(mask)}
    pixels, classes = tf.function(lambda: mask_transforms.decode(example, 21))()
    assert pixels.shape == (30, 40, 3) and pixels.dtype == tf.uint8 and classes.dtype == tf.int32
    np.testing.assert_array_equal(classes, np.where(mask == 255, -1, mask.astype(int)))
    other = np.where(mask == 4, 21, mask).astype(np.uint8)
    for bad, reason in (
        (encoded(other), "an index above the classes"), (encoded(mask.T), "another size than its image"),
        (encoded(mask, mode="P"), "not 8 bits of grey"), (encoded(image), "not 8 bits of grey"),
        (encoded(mask.astype(np.uint16)), "not 8 bits of grey"), (encoded(mask)[:60], "PNG"),
        (b"", "no PNG"), (b"\x89PNG", "no PNG"),
    ):  # fmt: skip
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            tf.function(lambda data: mask_transforms.decode({**example, "mask": data}, 21))(bad)


def test_pad():
    sizes = np.array([0, 1, 2, 64, 65, 66, 500, 513])
    assert mask_transforms.padded_size(sizes).tolist() == [1, 1, 65, 65, 65, 129, 513, 513]
    assert mask_transforms.padded_size(tf.constant(sizes)).numpy().tolist() == [1, 1, 65, 65, 65, 129, 513, 513]
    originals = np.array([[40, 60], [33, 66], [0, 0]], np.int32)
    images = np.full((3, 40, 66, 3), 255, np.uint8)
    padded = mask_transforms.pad(images, originals).numpy()
    assert padded.shape == (3, 65, 129, 3) and padded.dtype == np.float32
    there = mask_transforms.inside(originals, 40, 66).numpy()
    assert there.shape == (3, 40, 66)
    for k, (height, width) in enumerate(originals):
        expected = np.zeros((65, 129))
        expected[:height, :width] = 1
        np.testing.assert_array_equal(padded[k], np.repeat(expected[..., None], 3, axis=-1))
        np.testing.assert_array_equal(there[k], expected[:40, :66])


def test_a_very_wide_image_has_its_mask_beside_it():
    """Places times sides do not fit into 32 bits."""
    width, size = 40_000, 65
    columns = np.arange(width) % 200
    image = tf.constant(np.broadcast_to(columns[None, :, None], (2, width, 3)).astype(np.uint8))
    mask = tf.constant(np.broadcast_to(columns, (2, width)).astype(np.int32))
    begin = tf.constant([0, 2 * width - size])
    pixels, classes = mask_transforms.scaled_window(image, mask, tf.constant([4, 2 * width]), begin, size)
    shown = np.round((pixels[1, :, 0] + 1) * 127.5)
    assert np.abs(shown - classes[1].numpy()).max() <= 1
