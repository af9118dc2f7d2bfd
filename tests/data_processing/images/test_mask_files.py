"""Files of masks: the indices in them, by Pillow and SciPy as users write them, and what is refused."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from data_processing.images import mask_files
from data_processing.images.bare import ImageError
from tests.mask_files import PALETTE, mask, mat, png, saved

MASK = mask(1, 33, 21)
SMALL = mask(2, 33, 21, (0, 1, 3))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(MASK), MASK), (png(MASK, None), MASK), (png(MASK, transparency=255), MASK), (mat(MASK), MASK),
        (png(MASK, optimize=True), MASK), (mat(MASK, compressed=False), MASK), (mat(MASK.astype(np.int32)), MASK),
        (png(SMALL, PALETTE[:12], bits=2), SMALL), (png(SMALL % 2, PALETTE[:6], bits=1), SMALL % 2),
        (saved(Image.fromarray(SMALL % 2 == 1)), SMALL % 2),
    ],
)  # fmt: skip
def test_indices_come_back(data, expected):
    found = mask_files.read(data, (33, 21))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def grey(values, bits):
    """A PNG of grey of so many bits, written by hand."""
    lines = []
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        lines.append(b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big"))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *values.shape[::-1], bits, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_is_not_spread(bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (21, 33), np.uint8)
    np.testing.assert_array_equal(mask_files.read(grey(values, bits), (33, 21)), values)


def bomb():
    """A .mat of 64 MB of zeros in a few kB."""
    return mat(np.zeros((8000, 8000), np.uint8))


def with_header_before(data, *size):
    """A PNG with another header, of a grey image of this size, before its own."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    return data[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[8:]


@pytest.mark.parametrize("image", [Image.new("L", (300, 300)), Image.new("RGB", (33, 21))])
def test_the_first_of_several_headers_is_not_believed(image):
    with pytest.raises(ImageError, match="headers|damaged|truncated"):
        mask_files.read(with_header_before(saved(image), 33, 21), (33, 21))


def test_no_header_first():
    data = saved(Image.fromarray(MASK))
    with pytest.raises(ImageError, match="its header is not the first of it"):
        mask_files.png_size(data[:12] + b"tEXt" + data[16:])


def test_a_mat_whose_bytes_have_no_order():
    data = bomb()
    with pytest.raises(ImageError, match="does not say the order of its bytes"):
        mask_files.read(data[:126] + b"\1\1" + data[128:], (33, 21))


def nested(depth):
    """A .mat of cells in cells."""
    inner = b""
    for _ in range(depth):
        content = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIII", 5, 8, 1, 1) + struct.pack("<II", 1, 0) + inner
        inner = struct.pack("<II", 14, len(content)) + content
    return mat(MASK)[:128] + inner


EXIF = Image.Exif()
EXIF[0x0112] = 6


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"), (b"<html>", "neither a PNG nor a .mat"), (saved(Image.fromarray(MASK), "JPEG"), "neither"),
        (saved(Image.new("RGB", (33, 21))), r"RGB: the colors are no indices; .* Image.fromarray\(classes, \"L\"\)"),
        (saved(Image.new("RGBA", (33, 21))), "RGB with alpha: "),
        (saved(Image.new("LA", (33, 21))), "grey with alpha: "),
        (saved(Image.fromarray(MASK.astype(np.uint16))), "16 bits of grey; save it with 8"),
        (png(MASK.T.copy()), "21 x 33 pixels, the image has 33 x 21"), (mat(MASK.T), "21 x 33 pixels, the im"),
        (png(MASK)[:-40], "damaged or truncated"), (png(MASK)[:30], "no PNG"), (png(MASK, exif=EXIF), "orientation"),
        (mat(MASK)[:-9], ".mat damaged"), (mat(MASK)[:128], "no GTcls"), (mat(MASK, "Other"), "without GTcls.Segm"),
        (mat(MASK / 2), "no matrix of whole numbers"), (mat(MASK.astype(np.int16) + 9), "index 264 is none"),
        (mat(MASK.astype(np.int16) - 1), "index .* is none"), (bomb(), "more than 1,059,664 bytes, unpacked"),
        (nested(5000), "more than 4,000 matrices"), (nested(3900), "no GTcls|damaged"),
    ],
)  # fmt: skip
def test_others_are_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        mask_files.read(data, (33, 21))


def test_a_png_larger_than_its_image_is_not_decoded():
    data = bytearray(png(MASK))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    with pytest.raises(ImageError, match="2147483647 x 2147483647 pixels, the image has 33 x 21"):
        mask_files.read(bytes(data), (33, 21))


def test_classes_and_void():
    np.testing.assert_array_equal(mask_files.to_classes(MASK, 255, 21), MASK)
    with pytest.raises(ImageError, match="index 20 above the classes, 0 to 12; 255 is void"):
        mask_files.to_classes(MASK, 255, 13)
    moved = mask_files.to_classes(mask(3, classes=(0, 1, 2)), 0, 3)
    assert set(np.unique(moved)) == {1, 2, 255}
    with pytest.raises(ImageError, match="index 255 above"):
        mask_files.to_classes(MASK, 0, 255)


def test_encode():
    data = mask_files.encode(MASK)
    assert Image.open(io.BytesIO(data)).mode == "L"
    np.testing.assert_array_equal(mask_files.read(data, (33, 21)), MASK)
