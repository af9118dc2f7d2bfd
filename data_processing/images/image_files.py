"""Untrusted image files: whether they decode, and their pixels or a JPEG of them. Pillow, no TensorFlow.

Files come as baseline, progressive, CMYK, grey or rotated JPEG, PNG with alpha, GIF, BMP and WebP, and as HTML with the
name `.jpg`. Nothing is decoded before its size in pixels, and the work that it takes, are known to be within limits.
Pillow sees no metadata (`data_processing.images.bare`).
"""

import contextlib
import io
import os
from pathlib import Path
import stat
from typing import NamedTuple
import warnings

import numpy as np
from PIL import Image

from data_processing.images.bare import Bare, ImageError, orientation, strip

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
JPEG_QUALITY = 95
JPEG_MAX_SIDE = 65_500  # of libjpeg
# An image is reduced by whole factors, of a JPEG while it is decoded, down to so many times its new size, and then by a
# filter. By Pillow's manual, from 3 on it looks as by the filter alone.
REDUCING_GAP = 3
# A progressive JPEG's every scan passes over all pixels, and takes 10 bytes. Encoders write about 10 scans; the largest
# image may have twice as many, a smaller one more. (What libjpeg-turbo advises; its own tools stop at 100 or 500.)
MAX_SCANS = 20
# Of a small image, a scan costs as much as one of so many pixels.
LEAST_SCAN = 2**16
# Pillow decodes a BMP of runs in Python, a run at a time, and lets one run be 255 rows.
MAX_RUNS_PIXELS, MAX_RUNS_BYTES = 2**20, 2**22
BMP_RUNS = (1, 2)

# What makes an image upright, by its orientation in EXIF. Any other orientation, the usual 1 too, is upright.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Our limit is checked on the header of each file, before Pillow would warn.
Image.MAX_IMAGE_PIXELS = None
# Odd metadata is no reason to refuse the pixels, nor to fill the terminal. Here and not around each call, since
# `warnings.catch_warnings` must not be used by several threads at a time.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# How the reason begins for a file that begins as an image, and does not end as one.
TRUNCATED = "damaged or truncated"


def decode(data, max_pixels=MAX_PIXELS):
    """Returns the pixels of an encoded image, RGB uint8 [height, width, 3], upright.

    Alpha is laid on white, of an animation it is the first frame. Raises ImageError if `data` is no image, is
    truncated, or has more than `max_pixels` pixels.
    """
    loaded = _load(data, max_pixels)
    return np.asarray(_upright(_rgb(loaded.image), loaded.transpose))


def as_jpeg(data, max_pixels=MAX_PIXELS, resize_short=0, quality=JPEG_QUALITY):
    """Returns a JPEG of an encoded image, as every decoder of JPEGs reads it alike, and its width and height.

    Args:
      data: the image in one of FORMATS.
      max_pixels: of the largest image.
      resize_short: pixels that a longer short side is reduced to, or 0: the size stays.
      quality: of a JPEG that is encoded anew, 1 to 100.

    An upright grey or RGB JPEG that keeps its size comes back as the very same bytes, after a check that it decodes.
    Anything else (other formats, CMYK, another orientation in EXIF) is decoded and encoded anew. Raises ImageError as
    `decode` does, and for an image too long for a JPEG.
    """
    image, transpose, size, box = _load(data, max_pixels, resize_short)
    keeps_mode = image.format == "JPEG" and image.mode in ("L", "RGB")
    if keeps_mode and transpose is None and not box:
        return data, image.width, image.height
    if max(size) > JPEG_MAX_SIDE:
        raise ImageError(f"{size[0]} x {size[1]} pixels, a JPEG's sides are at most {JPEG_MAX_SIDE}")
    image = image if keeps_mode and box else _rgb(image)
    if box:
        with _blamed_on_image(b"", "cannot be reduced"):
            image = image.resize(size, Image.Resampling.LANCZOS, box, REDUCING_GAP)
    image = _upright(image, transpose)
    # Of its colors a photograph has no more than half the pixels already; what is reduced may do so, too.
    return _encode(image, quality, subsampling=2 if box else 0), image.width, image.height


class Stored(NamedTuple):
    """How an image lies in its file: width and height in pixels, before `as_jpeg` or `decode` turns it upright.

    `orientation` is the number, a key of ORIENTATIONS, by which they turn it, or None.
    """

    width: int
    height: int
    orientation: int | None


def stored(data) -> Stored:
    """Returns how an encoded image that decodes lies in its file. Raises ImageError as `decode` does."""
    with _blamed_on_image(data):
        bare = strip(data)
        image = Image.open(io.BytesIO(bare.data), formats=FORMATS)
        number = _orientation(image, bare)
    return Stored(*image.size, number if number in ORIENTATIONS else None)


def check(data, max_pixels=MAX_PIXELS):
    """Returns the format, one of FORMATS, of an encoded image that decodes. Raises ImageError as `decode` does."""
    return _load(data, max_pixels)[0].format


def read_file(path, max_pixels=MAX_PIXELS):
    """Returns a file's bytes; ImageError if it is a pipe, say, or too long for an image of `max_pixels`."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a file")
    # The longest, BMP, takes 4 bytes a pixel; and there is metadata.
    if status.st_size > 4 * max_pixels + 2**24:
        raise ImageError(f"{status.st_size} bytes, too many for {max_pixels} pixels")
    return Path(path).read_bytes()


def image_paths(folder, left_out=None):
    """Returns the paths, sorted, of the files below `folder` whose names end as images' do.

    Links to folders, and links that lead out of `folder`, are left out; their paths go into `left_out`, if it is a
    list. Raises OSError if the folder or one in it cannot be listed.
    """
    root, paths, links = os.path.realpath(folder), [], []
    for parent, folders, names in os.walk(folder, onerror=_fail):
        links += [path for path in (os.path.join(parent, name) for name in folders) if os.path.islink(path)]
        for path in (os.path.join(parent, name) for name in names if name.lower().endswith(EXTENSIONS)):
            outside = os.path.islink(path) and not is_inside(path, root)
            (links if outside else paths).append(path)
    if left_out is not None:
        left_out += sorted(links)
    return sorted(paths)


def _fail(error):
    raise error


def most_rejected(images, max_rejected) -> float:
    """Returns how many of so many images may be left out where their share, in [0, 1], may be `max_rejected`.

    A single one is no sign of a mistake, where it is not many of a few, and unless none may be left out.
    """
    return max(max_rejected * images, 1 if max_rejected and images >= 20 else 0)


def safe_join(root, path):
    """Returns `path`, relative to the folder `root`, as a path; ImageError if it would lie outside of `root`."""
    joined = Path(root, path)
    if "\0" in str(path):
        raise ImageError("null byte in the path")
    if not is_inside(joined, root):
        raise ImageError("path leaves the folder of images")
    return joined


def is_inside(path, root) -> bool:
    """Whether `path` lies below the folder `root`, links of both followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


@contextlib.contextmanager
def _blamed_on_image(data, what=""):
    """Whatever is raised inside, where the bytes of one image are all that is dealt with, becomes an ImageError.

    Pillow's plugins raise anything for odd bytes, AssertionError and TypeError, too; no list of it was ever complete.
    But that memory is short is no fault of an image whose size and work are within the limits.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if str(error).startswith("out of memory"):  # as Pillow's decoders say it
            raise MemoryError(str(error)) from error
        raise ImageError(f"{what}: {_words(error)}" if what else _reason(data, error)) from error


class _Loaded(NamedTuple):
    """A decoded first frame.

    Attributes:
      image: of Pillow; of a JPEG that is to be smaller it may be so in part already.
      transpose: what makes it upright, a value of ORIENTATIONS, or None.
      size: (width, height) that it is to have, before that.
      box: what of `image` becomes this size (left, top, right, bottom); None: it has it.
    """

    image: Image.Image
    transpose: Image.Transpose | None
    size: tuple[int, int]
    box: tuple[float, float, float, float] | None = None


def _load(data, max_pixels, resize_short=0) -> _Loaded:
    """Opens and decodes the first frame, after a look at its size and work. See `as_jpeg` for the arguments."""
    if not data:
        raise ImageError("empty file")
    with _blamed_on_image(data):
        bare = strip(data)
        image = Image.open(io.BytesIO(bare.data), formats=FORMATS)
        _check_work(image, bare, max_pixels)
        size, box = image.size, None
        if 0 < resize_short < min(size):
            size = tuple(max(resize_short, round(side * resize_short / min(image.size))) for side in image.size)
            drafted = image.draft(image.mode, tuple(REDUCING_GAP * side for side in size))
            box = drafted[1] if drafted else (0, 0, *image.size)
        # All at once: after each block of the usual 64 kB libjpeg may begin again at the first byte it has not used.
        image.decodermaxblock = len(bare.data)
        image.load()
        return _Loaded(image, ORIENTATIONS.get(_orientation(image, bare)), size, box)


def _orientation(image, bare: Bare):
    """The orientation that the metadata say, of WebP those that Pillow has read."""
    if image.format != "WEBP":
        return bare.orientation
    return orientation(*(image.info.get(name) or b"" for name in ("exif", "xmp")))


def _check_work(image, bare: Bare, max_pixels):
    pixels = image.width * image.height
    size = f"{image.width} x {image.height} pixels"
    if pixels > max_pixels:
        raise ImageError(f"{size}, more than {max_pixels}")
    if bare.scans * max(pixels, LEAST_SCAN) > MAX_SCANS * max(max_pixels, LEAST_SCAN):
        raise ImageError(f"{bare.scans} scans of {size}, more work than {MAX_SCANS} of {max_pixels}")
    has_runs = image.format == "BMP" and image.info.get("compression") in BMP_RUNS
    if has_runs and (pixels > MAX_RUNS_PIXELS or len(bare.data) > MAX_RUNS_BYTES):
        raise ImageError(f"compressed BMP of {size}, more than {MAX_RUNS_PIXELS}, or of over {MAX_RUNS_BYTES} bytes")


def _reason(data, error):
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "HTML or XML, not an image"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image in one of the formats {', '.join(FORMATS)}"
    return f"{TRUNCATED}: {_words(error)}"


def _words(error):
    return " ".join(str(error).split())[:100] or type(error).__name__


def _rgb(image):
    with _blamed_on_image(b"", "cannot be converted to RGB"):
        if image.mode in ("I", "I;16", "I;16B", "I;16L"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image)
        return image.convert("RGB")


def _upright(image, transpose):
    if transpose is None:
        return image
    with _blamed_on_image(b"", "cannot be turned"):
        return image.transpose(transpose)


def _encode(image, quality, **options):
    """Returns a JPEG of an image's pixels alone."""
    # Pillow writes a comment and more of it into the file, and fails where that is too long for a JPEG.
    image.info = {}
    encoded = io.BytesIO()
    with _blamed_on_image(b"", "cannot be written as JPEG"):
        image.save(encoded, "JPEG", quality=quality, **options)
    return encoded.getvalue()
