"""Files that only claim to be images, are truncated or changed, or say that they are huge."""

from pathlib import Path
import struct
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
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
