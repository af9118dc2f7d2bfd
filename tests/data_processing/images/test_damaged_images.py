"""Files that only claim to be images, are truncated or changed, or say that they are huge."""

import io
from pathlib import Path
import random
import struct
import subprocess
import sys
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo
import pytest

from data_processing.images import image_files
from tests.encoded_images import (
    DAMAGED_EXIF,
    FORMATS,
    GREEN,
    HEIGHT,
    WIDTH,
    encoded,
    jpeg,
    png_header,
    smooth,
    with_orientation,
)

ROOT = Path(__file__).parents[3]
# Pillow's remarks on odd metadata; that users do not see them has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation_is_noticed(name):
    """At the end of a PNG, a BMP or a WebP nothing may be missing; of a JPEG, no more than its end mark."""
    data = FORMATS[name]
    for length in {1, 3, 12, 30, len(data) // 4, len(data) // 2, len(data) * 3 // 4}:
        for function in (image_files.decode, image_files.as_jpeg):
            with pytest.raises(image_files.ImageError):
                function(data[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html><body>404", "HTML"),
        (b"\n  <HTML>", "HTML"),
        (bytes(1000), "not an image in one of the formats JPEG"),
        (b"%PDF-1.7", "not an image"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "not an image"),
        (encoded(Image.new("RGB", (9, 9)), "PPM"), "not an image"),
        (jpeg()[:-200], "damaged or truncated"),
    ],
)
def test_reasons(data, reason):
    with pytest.raises(image_files.ImageError, match=reason) as error:
        image_files.decode(data)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_too_many_pixels_are_refused_before_decoding():
    """100 megapixels in a hundred bytes. Decoding would say that rows are missing, the size comes first."""
    with pytest.raises(image_files.ImageError, match="10000 x 10000 pixels, more than 50000000"):
        image_files.decode(png_header(10_000, 10_000))
    with pytest.raises(image_files.ImageError, match="pixels, more than"):
        image_files.as_jpeg(png_header(2**31 - 1, 2**31 - 1))
    assert image_files.decode(jpeg(), max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(image_files.ImageError, match="40 x 24 pixels, more than 959"):
        image_files.decode(jpeg(), max_pixels=WIDTH * HEIGHT - 1)


def huge_canvases():
    """Small files of each format whose header, or first frame, is of hundreds of millions of pixels."""
    gif = encoded(Image.new("P", (9, 9)), "GIF")
    frame = gif.index(b",\0\0\0\0") + 5
    bmp = encoded(Image.new("RGB", (9, 9)), "BMP")
    red_and_blue = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    webp = encoded(red_and_blue[0], "WEBP", save_all=True, append_images=red_and_blue[1:])
    canvas = webp.index(b"VP8X") + 12
    sides = struct.pack("<I", 19_999)[:3] * 2
    jpeg_size = jpeg().index(b"\xff\xc0") + 5
    return {
        "png": png_header(20_000, 20_000),
        "gif": gif[:6] + struct.pack("<HH", 20_000, 20_000) + gif[10:],
        "gif frame": gif[:frame] + struct.pack("<HH", 20_000, 20_000) + gif[frame + 4 :],
        "bmp": bmp[:18] + struct.pack("<ii", 20_000, 20_000) + bmp[26:],
        "webp": webp[:canvas] + sides + webp[canvas + 6 :],
        "jpeg": jpeg()[:jpeg_size] + struct.pack(">HH", 20_000, 20_000) + jpeg()[jpeg_size + 4 :],
    }


ALONE = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import resource, sys
from data_processing.images import image_files

def use(path):
    refused = []
    for function in (image_files.decode, image_files.as_jpeg):
        try:
            function(path.read_bytes())
        except image_files.ImageError as error:
            assert "20000 x 20000 pixels" in str(error), (path, error)
            refused.append(path.name)
    return refused

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    refused = sum(pool.map(use, sorted(Path(sys.argv[1]).iterdir()) * 5), [])
print(*refused, sep="\\n")
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"
"""


def test_huge_canvases_take_no_memory_and_odd_metadata_no_word(tmp_path):
    """In a process of its own: its memory is measured, and nothing else chooses what is done with warnings."""
    for name, data in huge_canvases().items():
        (tmp_path / f"huge {name}").write_bytes(data)
    for k, exif in enumerate(DAMAGED_EXIF):
        (tmp_path / f"exif {k}").write_bytes(jpeg(exif=exif, dpi=(72, 72)))
    command = [sys.executable, "-c", ALONE, tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert sorted(run.stdout.splitlines()) == sorted(10 * [f"huge {name}" for name in huge_canvases()])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "JPEG"])
def test_metadata_does_not_come_along(form):
    """Of 70,000 bytes: more than a comment, or the EXIF, of a JPEG may have."""
    text, options = PngInfo(), {}
    if form == "GIF":
        options = {"comment": b"!" * 70_000}
    elif form == "PNG":
        text.add_text("comment", "!" * 70_000)
        text.add_text("exif", "!" * 70_000)
        options = {"pnginfo": text, "exif": b"Exif\0\0" + b"!" * 70_000, "icc_profile": b"!" * 70_000}
    elif form == "WEBP":
        options = {"exif": b"Exif\0\0" + b"!" * 70_000, "xmp": b"!" * 70_000, "icc_profile": b"!" * 70_000}
    elif form == "JPEG":
        options = {"comment": b"!" * 65_000, "icc_profile": b"!" * 70_000, "xmp": b"!" * 60_000}
    mode = "CMYK" if form == "JPEG" else "RGB"
    data = encoded(Image.fromarray(smooth()).convert(mode), form, **options)
    assert len(data) > 70_000
    again, width, height = image_files.as_jpeg(data)
    assert (width, height) == (WIDTH, HEIGHT) and b"!!!!" not in again
    for large in (data, again, jpeg(comment=b"!" * 65_000)):
        small, *size = image_files.as_jpeg(large, resize_short=12)
        assert Image.open(io.BytesIO(small)).size == tuple(size) == (20, 12) and b"!!!!" not in small


def without_palette():
    data = encoded(GREEN, "PNG")
    begin, end = data.index(b"PLTE") - 4, data.index(b"IDAT") - 4
    return data[:begin] + data[end:]


def test_a_palette_is_missing():
    """Pillow has an assertion for it."""
    for function in (image_files.decode, image_files.as_jpeg):
        with pytest.raises(image_files.ImageError, match="cannot be converted to RGB: AssertionError"):
            function(without_palette())


ODD = [AssertionError(), TypeError("odd\nbytes"), RecursionError("deep"), OSError(5, "I/O")]
PLACES = [(Image, "open"), (ImageFile.ImageFile, "load"), (Image.Image, "convert"), (Image.Image, "save")]


@pytest.mark.parametrize("error", ODD, ids=repr)
@pytest.mark.parametrize("place", PLACES, ids=["open", "load", "convert", "save"])
def test_whatever_is_raised_for_the_bytes_of_an_image_is_its_fault(error, place, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(*place, fail)
    with pytest.raises(image_files.ImageError) as caught:
        image_files.as_jpeg(FORMATS["png"])
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MemoryError),
        (OSError("out of memory when reading image file"), MemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(1), SystemExit),
    ],
)
def test_what_is_no_image_s_fault_passes(error, kind, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(kind):
        image_files.as_jpeg(FORMATS["png"])


def check_total(data):
    """Pixels or an ImageError, nothing else, for bytes that may be anything."""
    try:
        image = image_files.decode(data, max_pixels=100_000)
    except image_files.ImageError:
        image = None
    try:
        again, width, height = image_files.as_jpeg(data, max_pixels=100_000)
    except image_files.ImageError:
        assert image is None or max(image.shape) > image_files.JPEG_MAX_SIDE
    else:
        assert image.dtype == np.uint8 and image.shape == (height, width, 3)
        assert image_files.decode(again).shape == image.shape


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\x00\x00\x00WEBPVP8 "]
    ),
    data=st.binary(max_size=400),
)
def test_random_bytes(start, data):
    check_total(start + data)


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(
        [*FORMATS.values(), with_orientation(6), jpeg(exif=DAMAGED_EXIF[4], dpi=(72, 72)), encoded(GREEN, "GIF")]
    ),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    header=st.booleans(),
)
def test_changed_images(data, changes, header):
    changed = bytearray(data)
    for position, value in changes:
        changed[int(position * min(len(data), 300 if header else len(data)))] = value
    check_total(bytes(changed))


PALETTE = Image.fromarray(smooth()).quantize(16)
FLIPPED = [
    *FORMATS.values(),
    encoded(PALETTE, "PNG"),
    encoded(PALETTE, "PNG", transparency=3),
    encoded(Image.fromarray(smooth()).convert("LA"), "PNG"),
    encoded(Image.fromarray(smooth()[..., 0].astype(np.uint16) * 256), "PNG"),
    encoded(Image.fromarray(smooth()), "PNG", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]),
    encoded(PALETTE, "GIF", transparency=3, comment=b"hello"),
    encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.transpose(0)]),
    encoded(PALETTE, "BMP"),
    encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG"),
    encoded(Image.fromarray(smooth()), "WEBP", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]),
    with_orientation(6),
]


def with_checksums(data):
    """A PNG whose checksums are right again, so that decoders look at what was changed."""
    at, data = 8, bytearray(data)
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        data[end - 4 : end] = struct.pack(">I", zlib.crc32(data[at + 4 : end - 4]))
        at = end
    return bytes(data)


@pytest.mark.parametrize("number", range(len(FLIPPED)))
def test_flipped_bits(number):
    """A few thousand files in all, most of them with a change in the first hundred bytes."""
    choose = random.Random(number)
    for _ in range(250):
        changed = bytearray(FLIPPED[number])
        for _ in range(choose.choice([1, 1, 2, 4])):
            at = choose.randrange(min(len(changed), choose.choice([100, 100, len(changed)])))
            changed[at] = choose.choice([changed[at] ^ 1 << choose.randrange(8), choose.randrange(256)])
        data = bytes(changed)
        check_total(with_checksums(data) if choose.random() < 0.8 else data)
