"""Colors of masks, the PNGs that hold their indices, and overlays."""

import io

import numpy as np
from PIL import Image, PngImagePlugin
import pytest

from data_processing.images.image_files import ImageError
from evaluation import palette

MASK = np.random.default_rng(0).integers(0, 21, [30, 40]).astype(np.uint8)


def test_colors_are_those_of_the_devkit():
    """VOClabelcolormap.m, as everybody knows them."""
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128)}
    known |= {16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {k: tuple(palette.COLORS[k].tolist()) for k in known} == known
    assert len(np.unique(palette.COLORS, axis=0)) == 256
    np.testing.assert_array_equal(palette.colors([[-1, 1]]), [[(224, 224, 192), (128, 0, 0)]])


def test_a_mask_is_a_png_of_indices_in_the_palette(tmp_path):
    mask = MASK.astype(np.int16)
    mask[3, 4] = -1
    palette.write(tmp_path / "in" / "a.png", mask)
    with Image.open(tmp_path / "in" / "a.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", (40, 30))
        np.testing.assert_array_equal(np.asarray(image), mask & 255)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette.colors(mask))
    np.testing.assert_array_equal(palette.read(tmp_path / "in" / "a.png", (30, 40)), mask & 255)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_palettes_of_any_order_and_greys_are_indices():
    grey = Image.fromarray(MASK)
    np.testing.assert_array_equal(palette.decode(encoded(grey)), MASK)
    grey.putpalette(np.random.default_rng(1).integers(0, 256, 63).astype(np.uint8).tobytes())
    np.testing.assert_array_equal(palette.decode(encoded(grey)), MASK)
    few = Image.fromarray(MASK % 4)
    few.putpalette(bytes(range(12)))
    np.testing.assert_array_equal(palette.decode(encoded(few, bits=2)), MASK % 4)


def bomb():
    """A few kilobytes that unpack to 400 million pixels, and text that does likewise."""
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 10**6, zip=True)
    data = bytearray(encoded(Image.fromarray(MASK), pnginfo=text))
    data[16:24] = (20000).to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(Image.fromarray(MASK).convert("RGB")), "RGB: the colors are no indices; save the index"),
        (encoded(Image.fromarray(MASK).convert("RGBA")), "RGB with alpha: the colors are no indices"),
        (encoded(Image.fromarray(MASK.astype(np.uint16))), "16 bits of grey"),
        (encoded(Image.fromarray(MASK))[:-60], "damaged or truncated"),
        (bomb(), "20000 x 20000 pixels, more than 50000000"),
        (encoded(Image.fromarray(MASK.T)), "30 x 40 pixels, the image has 40 x 30"),
        (b"", "empty file"),
        (b"\xff\xd8\xff\xe0", "no PNG"),
    ],
)
def test_what_is_no_mask(data, message, tmp_path):
    with pytest.raises(ImageError, match=message):
        palette.decode(data, (30, 40) if b"\0\0\x4e\x20" not in data[:30] else None)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=f"a.png: .*{message}"):
        palette.read(tmp_path / "a.png", (30, 40) if b"\0\0\x4e\x20" not in data[:30] else None)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: No such file"):
        palette.read(tmp_path / "none.png")


def test_an_overlay_keeps_the_background_and_names_the_classes():
    image = np.full([120, 200, 3], 90, np.uint8)
    mask = np.zeros([120, 200], np.int64)
    np.testing.assert_array_equal(palette.overlay(image, mask, ["background"]), image)
    mask[10:50, 20:80], mask[60:90, :100], mask[0, 0] = 2, 1, -1
    drawn = palette.overlay(image, mask, ["background", "cat", "a bird of a name that is too long to stand in it"])
    assert drawn.shape[0] > 120 and drawn.shape[1] >= 200
    np.testing.assert_array_equal(drawn[100:120, 100:200], 90)
    share = palette.OPACITY
    np.testing.assert_array_equal(drawn[20, 30], np.round(90 * (1 - share) + palette.COLORS[2] * share))
    legend = drawn[120:].reshape(-1, 3)
    for k in (1, 2, 255):
        assert (legend == palette.COLORS[k]).all(axis=1).sum() > 30


def test_a_legend_may_be_wider_than_the_image():
    drawn = palette.overlay(np.zeros([9, 5, 3], np.uint8), np.ones([9, 5], int), ["background", "aeroplane"])
    assert drawn.shape[1] > 5 and (drawn[:9, 5:] == 255).all()
