"""Untrusted image files: whether they decode, and their pixels or a JPEG of them. Pillow, no TensorFlow.

Files come as baseline, progressive, CMYK, grey or rotated JPEG, PNG with alpha, GIF, BMP and WebP, and as HTML with the
name `.jpg`. Nothing is decoded before its size in pixels is known to be within the limit.
"""

import io
import os
from pathlib import Path
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
JPEG_QUALITY = 95
JPEG_MAX_SIDE = 65_500  # of libjpeg

EXIF_ORIENTATION = 0x0112
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
# What Pillow's decoders raise on damaged bytes.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, OverflowError, IndexError, KeyError)

# How the reason begins for a file that begins as an image, and does not end as one.
TRUNCATED = "damaged or truncated"


class ImageError(ValueError):
    """The bytes are no image that can be used; the message is the reason in a few words."""


def decode(data, max_pixels=MAX_PIXELS):
    """Returns the pixels of an encoded image, RGB uint8 [height, width, 3], upright.

    Alpha is laid on white, of an animation it is the first frame. Raises ImageError if `data` is no image, is
    truncated, or has more than `max_pixels` pixels.
    """
    return np.asarray(_upright_rgb(_load(data, max_pixels)))


def as_jpeg(data, max_pixels=MAX_PIXELS):
    """Returns a JPEG of an encoded image, as every decoder of JPEGs reads it alike, and its width and height.

    An upright grey or RGB JPEG comes back as the very same bytes, after a check that it decodes. Anything else (other
    formats, CMYK, another orientation in EXIF) is decoded and encoded anew. Raises ImageError as `decode` does, and for
    an image too long for a JPEG.
    """
    image = _load(data, max_pixels)
    if image.format == "JPEG" and image.mode in ("L", "RGB") and _orientation(image) is None:
        return data, image.width, image.height
    if max(image.size) > JPEG_MAX_SIDE:
        raise ImageError(f"{image.width} x {image.height} pixels, a JPEG's sides are at most {JPEG_MAX_SIDE}")
    image = _upright_rgb(image)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return encoded.getvalue(), image.width, image.height


def check(data, max_pixels=MAX_PIXELS):
    """Returns the format, one of FORMATS, of an encoded image that decodes. Raises ImageError as `decode` does."""
    return _load(data, max_pixels).format


def shrink(data, short_side):
    """Returns a JPEG of an image with its short side reduced to `short_side` pixels; as it is if it is no longer.

    `data` is a JPEG of `as_jpeg`.
    """
    image = Image.open(io.BytesIO(data))
    scale = short_side / min(image.size)
    if scale >= 1:
        return data
    size = [max(short_side, round(side * scale)) for side in image.size]
    # The decoder leaves out what would be thrown away, down to twice the size.
    image.draft(image.mode, [2 * side for side in size])
    encoded = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


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


def _load(data, max_pixels):
    """Opens and decodes the first frame, after a look at its size."""
    if not data:
        raise ImageError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise ImageError(f"{image.width} x {image.height} pixels, more than {max_pixels}")
        image.load()
    except ImageError:
        raise
    except DAMAGE as error:
        raise ImageError(_reason(data, error)) from error
    return image


def _reason(data, error):
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "HTML or XML, not an image"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image in one of the formats {', '.join(FORMATS)}"
    return f"{TRUNCATED}: {' '.join(str(error).split())[:100] or type(error).__name__}"


def _orientation(image):
    """What makes the image upright, a value of ORIENTATIONS, or None."""
    try:
        return ORIENTATIONS.get(image.getexif().get(EXIF_ORIENTATION))
    except (*DAMAGE, TypeError):  # damaged EXIF; an orientation may be of any type then
        return None


def _upright_rgb(image):
    orientation = _orientation(image)
    try:
        if orientation is not None:
            image = image.transpose(orientation)
        if image.mode in ("I", "I;16", "I;16B", "I;16L"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image)
        return image.convert("RGB")
    except DAMAGE as error:
        raise ImageError(f"cannot be converted to RGB: {' '.join(str(error).split())[:100]}") from error
