"""Images at the size of training: against means over areas, by NumPy alone."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from data_processing.images import bare, image_files
from tests.encoded_images import encoded, many_scans
from tests.photographs import photograph

CELLS = 6  # along each side


def area_means(pixels, height=CELLS, width=CELLS):
    """Means over the cells of a grid, which may cut pixels: float [height, width, channels]."""
    rows, columns = (shares(*sides) for sides in ((height, pixels.shape[0]), (width, pixels.shape[1])))
    return np.einsum("hr,rwc->hwc", rows, np.einsum("wk,rkc->rwc", columns, pixels, optimize=True), optimize=True)


def shares(cells, length):
    """How much of each cell is of each pixel, along one side: float [cells, length]."""
    edges, pixels = np.linspace(0, length, cells + 1)[:, None], np.arange(length)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return overlap.clip(0) * cells / length


def drawing(height, width):
    """What is seen if it moves by a pixel: a photograph, and rectangles on it."""
    pixels = photograph(height, width)
    for k in range(4):
        top, left = k * height // 4, (k * 3 % 4) * width // 4
        pixels[top : top + height // 6, left : left + width // 6] = (40 * k, 200 - 30 * k, 60 + 90 * (k % 2))
    return pixels


def as_pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(70, 500), st.integers(70, 500)),
    short=st.integers(64, 200),
    form=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    mode=st.sampled_from(["RGB", "L"]),
    orientation=st.sampled_from([1, 3, 6]),
)
def test_any_image_has_the_size_and_shows_the_same(sides, short, form, mode, orientation):
    exif = Image.Exif()
    exif[bare.ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = encoded(Image.fromarray(drawing(*sides)).convert(mode), form, exif=exif, **options)
    small, width, height = image_files.as_jpeg(data, resize_short=short)
    if min(sides) <= short:
        assert (small, width, height) == image_files.as_jpeg(data)
        return
    upright = as_pixels(data)
    assert min(width, height) == short
    assert abs(width / height - upright.shape[1] / upright.shape[0]) <= max(width, height) / short**2
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (width, height) and image.mode == ("L" if (form, mode) == ("JPEG", "L") else "RGB")
    differences = np.abs(area_means(as_pixels(small) - area_means(upright, height, width)))
    assert differences.max() < 12 and differences.mean() < 1.5
    assert image_files.as_jpeg(data, resize_short=short) == (small, width, height)


@pytest.mark.parametrize("factor", [2, 3, 7.5])
def test_each_pixel_is_about_the_mean_of_its_area(factor):
    """With 7.5 the JPEG is decoded at half its size, of an odd number of pixels, which must move nothing."""
    pixels = drawing(round(120 * factor), round(160 * factor) + 1)
    data = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    small, width, height = image_files.as_jpeg(data, resize_short=120)
    assert (height, abs(width - 160) <= 1) == (120, True)
    expected = area_means(as_pixels(data), height, width)
    differences = np.abs(as_pixels(small) - expected)
    assert differences.mean() < 2
    for moved in (expected[:, 1:] - as_pixels(small)[:, :-1], expected[1:] - as_pixels(small)[:-1]):
        assert np.abs(moved).mean() > 1.5 * differences.mean()


def test_the_quality_is_of_what_is_encoded_anew():
    data = encoded(Image.fromarray(drawing(200, 300)), "JPEG", quality=95)
    sizes = [len(image_files.as_jpeg(data, resize_short=100, quality=quality)[0]) for quality in (60, 85, 95)]
    assert sizes[0] < 0.7 * sizes[1] < 0.7 * sizes[2]
    assert image_files.as_jpeg(data, quality=10)[0] == data
    png = encoded(Image.fromarray(drawing(200, 300)), "PNG")
    assert len(image_files.as_jpeg(png, quality=60)[0]) < 0.5 * len(image_files.as_jpeg(png)[0])


def test_bounds_and_damage_are_as_without():
    data = encoded(Image.fromarray(drawing(700, 900)), "JPEG", quality=95)
    for short in (0, 64):  # with 64 it is decoded at half its size
        with pytest.raises(image_files.ImageError, match="900 x 700 pixels, more than 629999"):
            image_files.as_jpeg(data, 629_999, short)
        with pytest.raises(image_files.ImageError, match="more work than"):
            image_files.as_jpeg(many_scans((900, 700), 50), 700_000, short)
        for end in (len(data) // 2, len(data) - 40, 300):
            with pytest.raises(image_files.ImageError, match=image_files.TRUNCATED):
                image_files.as_jpeg(data[:end], resize_short=short)
    tall = encoded(Image.new("RGB", (9, 65_501), "red"), "PNG")
    assert image_files.as_jpeg(tall, resize_short=8)[1:] == (8, 58_223)
