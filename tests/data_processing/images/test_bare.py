"""Files without their metadata: the same pixels, and nothing in them that takes long or much memory to read."""

import io
from pathlib import Path
import struct
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image
import pytest

from data_processing.images import bare, image_files
from tests.encoded_images import FORMATS, GREEN, encoded, jpeg, many_scans, smooth, with_orientation

ROOT = Path(__file__).parents[3]
# Pillow's remarks on odd metadata.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PALETTE = Image.fromarray(smooth()).quantize(16)
RED = Image.new("RGB", (9, 9), "red")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks, image=RED):
    """A PNG with chunks before its pixels."""
    data = encoded(image, "PNG")
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def gif_with(blocks):
    """A GIF with blocks before its image."""
    data = encoded(GREEN, "GIF")
    at = data.index(b",\0\0\0\0")
    return data[:at] + blocks + data[at:]


def jpeg_with(*segments, data=None):
    """A JPEG with segments, marker and content, at its begin."""
    data = data or encoded(RED, "JPEG")
    return data[:2] + b"".join(b"\xff%c" % m + struct.pack(">H", len(c) + 2) + c for m, c in segments) + data[2:]


def shared_exif(entries, length, order="<"):
    """EXIF of orientation 6, and of so many other entries which all have the same bytes for a value."""
    begin = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries + 1)
    fields = struct.pack(order + "HHIHH", bare.ORIENTATION, 3, 1, 6, 0)
    fields += b"".join(struct.pack(order + "HHII", 0x9000 + k, 7, length, 8) for k in range(entries))
    return begin + fields + bytes(max(0, length - len(fields)))


RICH = {
    "jpeg": jpeg(exif=b"Exif\0\0" + shared_exif(3, 9), comment=b"hello", icc_profile=bytes(100_000), xmp=XMP % 3),
    "progressive jpeg": jpeg(progressive=True, comment=b"hello"),
    "cmyk jpeg": encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", comment=b"hello"),
    "fill bytes": jpeg()[:2] + b"\xff" * 9 + jpeg()[2:20] + b"\xff\0zeros and junk" + jpeg()[20:],
    "png": png_with(chunk(b"tEXt", b"Comment\0hello"), chunk(b"abCd", b"hello"), image=Image.fromarray(smooth())),
    "apng": encoded(Image.fromarray(smooth()), "PNG", save_all=True, append_images=[Image.new("RGB", (40, 24))]),
    "palette png": encoded(PALETTE, "PNG", transparency=3),
    "gif": encoded(PALETTE, "GIF", comment=b"hello", transparency=3),
    "gif of two": encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.transpose(0)], loop=0),
    "gif, two controls": gif_with(b"!\xf9\x04\x01\0\0\x02\0!\xfe\x01!\0!\xf9\x04\x08\0\0\0\0"),
}


@pytest.mark.parametrize("data", [*FORMATS.values(), *RICH.values()], ids=[*FORMATS, *RICH])
def test_pixels_are_the_same_without_metadata(data):
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(bare.strip(data).data))
    assert (before.format, before.mode, before.size) == (after.format, after.mode, after.size)
    assert before.info.get("transparency") == after.info.get("transparency")
    np.testing.assert_array_equal(before.convert("RGBA"), after.convert("RGBA"))
    for word in (b"hello", b"acTL", b"tiff:"):
        assert word not in bare.strip(data).data


@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_wherever_it_stands(number):
    exif = Image.Exif()
    exif[bare.ORIENTATION], exif[0x010F] = number, "a maker"
    exif = exif.tobytes()
    hexadecimal = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    files = [
        with_orientation(number),
        encoded(RED, "PNG", exif=exif),
        png_with(chunk(b"zTXt", bare.EXIF_TEXT + zlib.compress(hexadecimal))),
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % number)),
        jpeg(xmp=XMP % number),
        jpeg(xmp=XMP % 2, exif=exif),
    ]
    for data in files:
        assert bare.strip(data).orientation == Image.open(io.BytesIO(data)).getexif()[bare.ORIENTATION] == number
    assert bare.orientation(shared_exif(3, 9, "<")) == bare.orientation(shared_exif(3, 9, ">")) == 6
    webp = encoded(Image.fromarray(smooth()), "WEBP", lossless=True, exif=exif)
    np.testing.assert_array_equal(image_files.decode(webp).shape, (24, 40, 3) if number < 5 else (40, 24, 3))


def test_damaged_text_of_exif_is_none():
    for text in (b"", b"\nexif\n 9\nxyz", b"\nexif\n 9\n" + bytes(2**22)):
        assert bare.strip(png_with(chunk(b"zTXt", bare.EXIF_TEXT + zlib.compress(text)))).orientation is None
    assert bare.strip(png_with(chunk(b"zTXt", bare.EXIF_TEXT + b"no stream"))).orientation is None


def test_scans():
    preview = (0xE1, b"Exif\0\0" + jpeg(progressive=True))
    assert bare.strip(jpeg()).scans == 1
    assert bare.strip(many_scans((40, 30), 77)).scans == 77
    assert bare.strip(jpeg_with(preview)).scans == 1
    assert bare.strip(jpeg() + many_scans((40, 30), 77)).scans == 1  # as cameras append further images
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    assert bare.strip(encoded(noise, "JPEG", quality=98, restart_marker_blocks=1)).scans == 1
    assert bare.strip(FORMATS["png"]).scans == 1


def test_an_image_with_others_appended_is_a_jpeg():
    """MPO, as cameras write it for pairs and previews."""
    data = encoded(Image.fromarray(smooth()), "MPO", save_all=True, append_images=[Image.fromarray(smooth())])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert image_files.check(data) == "JPEG" and image_files.as_jpeg(data) == (data, 40, 24)


def test_scans_times_pixels_are_bounded():
    refused = many_scans((1000, 1000), 21)
    with pytest.raises(image_files.ImageError, match="^21 scans of 1000 x 1000 pixels, more work than 20 of 1000000$"):
        image_files.decode(refused, max_pixels=10**6)
    assert image_files.decode(many_scans((1000, 1000), 20), max_pixels=10**6).shape == (1000, 1000, 3)
    assert image_files.decode(many_scans((90, 90), 200), max_pixels=10**6).shape == (90, 90, 3)
    assert image_files.check(many_scans((40, 30), 20), max_pixels=1200) == "JPEG"


def long_files():
    """Files that are images and, as Pillow reads them, take gigabytes or minutes; each with whether it is refused."""
    exif = shared_exif(25_000, 2_000_000)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20), 9))
    body = encoded(RED, "JPEG")
    return {
        "scans": (many_scans((7000, 7000), 5000), True),
        "comment": (gif_with(b"!\xfe" + (b"\xff" + b"!" * 255) * 60_000 + b"\0"), False),
        "many comments": (gif_with(b"!\xfe\0" * 1_000_000), True),
        "zeros": (gif_with(bytes(1_000_000)), True),
        "cleared frame": (gif_with(b"!\xf9\x04\x08\0\0\0\0,\0\0\0\0" + struct.pack("<HH", 60_000, 60_000)), True),
        "entries of a png": (png_with(chunk(b"eXIf", exif)), False),
        "entries of a webp": (encoded(RED, "WEBP", exif=exif), False),
        "entries of a jpeg": (jpeg_with((0xE1, b"Exif\0\0" + shared_exif(5000, 60_000)), data=body), False),
        "text": (png_with(text * 200), False),
        "chunks": (png_with(chunk(b"abCd", b"") * 300_000), True),
        "segments": (jpeg_with(*[(0xE5, b"")] * 300_000, data=body), True),
        "fill bytes": (body[:2] + b"\xff" * 20_000_000 + body[2:], False),
        "fill bytes in pixels": (body[:-2] + b"\xff" * 20_000_000 + body[-2:], False),
        "fill bytes alone": (body[:20] + b"\xff" * 20_000_000, True),
        "runs": (bmp_of_runs(50_000_000, 1, b"\0\2\xff\xff\0\1"), True),
        "ends of rows": (bmp_of_runs(1000, 1000, b"\0\0" * 10_000_000), True),
    }


def bmp_of_runs(width, height, data):
    header = struct.pack("<IIiiHHIIiiII", 1078, 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<II", 1078 + len(data), 0) + header + bytes(1024) + data


ALONE = """
from pathlib import Path
import resource, sys
from data_processing.images import image_files

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        image_files.as_jpeg(path.read_bytes())
    except image_files.ImageError as error:
        print(path.name)
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"
"""


def test_long_metadata_takes_neither_memory_nor_time(tmp_path):
    """Of most of these Pillow alone would need minutes or gigabytes: the process is given neither."""
    files = long_files()
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", ALONE, tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == sorted(name for name, (_, is_refused) in files.items() if is_refused)


def test_bmp_of_runs():
    data = bmp_of_runs(4, 2, b"\4\1\0\0\4\2\0\1")
    assert image_files.decode(data).shape == (2, 4, 3)
    with pytest.raises(image_files.ImageError, match="compressed BMP of 2000 x 1000 pixels"):
        image_files.decode(bmp_of_runs(2000, 1000, b"\4\1\0\1"))
