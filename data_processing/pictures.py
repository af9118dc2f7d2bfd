"""Untrusted picture files: whether they decode, and their pixels or a JPEG of them. Pillow, no TensorFlow.

Files come as baseline, progressive, CMYK, grey or rotated JPEG, PNG with alpha, GIF, BMP and WebP, and as HTML with the
name `.jpg`. Nothing is decoded before its size in pixels is known to be within the limit.
"""

import io
import os
from pathlib import Path
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
EXIF_ORIENTATION = 0x0112
JPEG_QUALITY = 95

# Our limit is checked on the header of each file, before Pillow would warn.
Image.MAX_IMAGE_PIXELS = None
# What Pillow's decoders raise on damaged bytes.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, OverflowError, IndexError, KeyError)


class PictureError(ValueError):
    """The bytes are no picture that can be used; the message is the reason in a few words."""


def decode(data, max_pixels=MAX_PIXELS):
    """Returns the pixels of an encoded picture, RGB uint8 [height, width, 3], upright.

    Alpha is laid on white, of an animation it is the first frame. Raises PictureError if `data` is no picture, is cut
    short, or has more than `max_pixels` pixels.
    """
    return np.asarray(_upright_rgb(_load(data, max_pixels)))


def as_jpeg(data, max_pixels=MAX_PIXELS):
    """Returns a JPEG of an encoded picture, as every decoder of JPEGs reads it alike, and its width and height.

    An upright grey or RGB JPEG comes back as the very same bytes, after a check that it decodes. Anything else (other
    formats, CMYK, an orientation in EXIF) is decoded and encoded anew. Raises PictureError as `decode` does.
    """
    image = _load(data, max_pixels)
    if image.format == "JPEG" and image.mode in ("L", "RGB") and image.getexif().get(EXIF_ORIENTATION, 1) == 1:
        return data, image.width, image.height
    image = _upright_rgb(image)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return encoded.getvalue(), image.width, image.height


def picture_paths(folder):
    """Returns the paths, sorted, of the files below `folder` whose names end as pictures' do."""
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )


def safe_join(root, path):
    """Returns `path`, relative to the folder `root`, as a path; PictureError if it would lie outside of `root`."""
    joined = Path(root, path)
    if not joined.resolve().is_relative_to(Path(root).resolve()):
        raise PictureError("path leaves the folder of images")
    return joined


def _load(data, max_pixels):
    """Opens and decodes the first frame, after a look at its size."""
    if not data:
        raise PictureError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EXIF that Pillow finds odd is no reason to refuse the pixels
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise PictureError(f"{image.width} x {image.height} pixels, more than {max_pixels}")
            image.load()
    except PictureError:
        raise
    except DAMAGE as error:
        raise PictureError(_reason(data, error)) from error
    return image


def _reason(data, error):
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "HTML or XML, not a picture"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not a picture in one of the formats {', '.join(FORMATS)}"
    return f"damaged or cut short: {' '.join(str(error).split())[:100] or type(error).__name__}"


def _upright_rgb(image):
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I", "I;16", "I;16B", "I;16L"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image)
        return image.convert("RGB")
    except DAMAGE as error:
        raise PictureError(f"cannot be converted to RGB: {' '.join(str(error).split())[:100]}") from error
