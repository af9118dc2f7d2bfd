"""Small images, encoded by Pillow in every format, for several tests."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from data_processing.images import bare

WIDTH, HEIGHT = 40, 24
# A JPEG's error on a smooth image, in grey levels.
TOLERANCE = 6


def smooth(height=HEIGHT, width=WIDTH):
    """Colours that change slowly, differently along each side: RGB uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 4 * x, 30 + 7 * y, 200 - 2 * x - y], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(**options):
    return encoded(Image.fromarray(smooth()), "JPEG", quality=95, subsampling=0, **options)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[bare.ORIENTATION] = orientation
    return jpeg(exif=exif.tobytes())


def png_header(width, height):
    """A PNG of a few bytes that says it is as large as this."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def many_scans(size, scans, mode="L"):
    """A progressive JPEG of one color whose last scan, of a few bytes, comes again and again."""
    data = encoded(Image.new(mode, size, 77), "JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xc4"), len(data) - 2
    return data[:end] + data[last:end] * (scans - data.count(b"\xff\xda")) + data[end:]


GREEN = Image.new("P", (9, 9), 2)
FORMATS = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "png": encoded(Image.fromarray(smooth()), "PNG"),
    "png with alpha": encoded(Image.fromarray(smooth()).convert("RGBA"), "PNG"),
    "bmp": encoded(Image.fromarray(smooth()), "BMP"),
    "webp lossless": encoded(Image.fromarray(smooth()), "WEBP", lossless=True),
    "webp": encoded(Image.fromarray(smooth()), "WEBP", quality=95),
}
# EXIF, in its forms of TIFF: no TIFF, only begun, entries missing, a first entry past the end, orientation 6 before
# damage, a text for an orientation.
DAMAGED_EXIF = [
    b"Exif\0\0no TIFF at all",
    b"Exif\0\0II",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    b"Exif\0\0MM\0*\xff\xff\xff\xff",
    bytes.fromhex("457869660000 4d4d002a00000008 0002 0112000300000001 00060000 011a000500000001 ffffffff"),
    bytes.fromhex("457869660000 4d4d002a00000008 0001 0112000200000002 41000000 00000000"),
]
