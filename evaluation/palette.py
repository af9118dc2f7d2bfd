"""Masks of classes as colors: VOC's palette, PNGs of indices in it, and masks laid over images with a legend."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_processing.images import image_files, mask_files
from data_processing.images.image_files import ImageError
from data_processing.images.mask_files import VOID
from evaluation import drawing
from utils.files import atomic_write

# Share of the color in a pixel of an overlay; and how long the name of a class may be beside it, in letters.
OPACITY, LONGEST_NAME = 0.55, 40


def _voc_colors():
    """Each color takes an index's bits, three by three from the lowest, as its channels' bits from the highest on."""
    index, channels = np.arange(256), np.zeros([256, 3], np.int64)
    for place in range(8):
        for channel in range(3):
            channels[:, channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return channels.astype(np.uint8)


# Of VOC's development kit: red, green and blue from 0 to 255 of each index, uint8 [256, 3].
COLORS = _voc_colors()


def colors(mask):
    """Returns the colors of a mask's pixels, uint8 [..., 3]; `mask` is integer [...], void is -1 or VOID."""
    return COLORS[np.asarray(mask).astype(np.int64) & VOID]


def write(path, mask):
    """Writes a mask as a PNG of indices with the palette; its folder is made.

    Args:
      path: of the file.
      mask: integer [height, width], classes from 0 to 254, -1 or VOID for void.
    """
    image = Image.fromarray((np.asarray(mask).astype(np.int64) & VOID).astype(np.uint8))
    image.putpalette(COLORS.tobytes())
    with atomic_write(path) as temp_path:
        image.save(temp_path, "PNG")


def read(path, size=None, max_pixels=image_files.MAX_PIXELS):
    """Returns the indices in a file, see `decode`. Raises ImageError, which names the file."""
    try:
        return decode(image_files.read_file(path, max_pixels), size, max_pixels)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def decode(data, size=None, max_pixels=image_files.MAX_PIXELS):
    """Returns the indices in a PNG of a palette or of grey, of at most 8 bits: uint8 [height, width].

    Args:
      data: bytes.
      size: height and width that it must have, or None.
      max_pixels: that it may have; nothing larger is decoded.

    Raises ImageError for anything else.
    """
    width, height = mask_files.png_size(data)
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels, more than {max_pixels}")
    return mask_files.read(data, (width, height) if size is None else (size[1], size[0]))


def overlay(image, mask, names):
    """Returns an image with the colors of its classes laid over it, and below it a legend: uint8 [height, width, 3].

    The background, class 0, keeps the image's colors. The legend, of white ground, has each class that is there with
    its share of the pixels; it is as wide as the image or, if a name is wider, as that.

    Args:
      image: uint8 [height, width, 3], RGB.
      mask: integer [height, width], as of `write`.
      names: of the classes, by index.
    """
    indices = np.asarray(mask).astype(np.int64) & VOID
    seen = (indices != 0)[..., None] * OPACITY
    drawn = np.round(image * (1 - seen) + COLORS[indices] * seen).astype(np.uint8)
    counts = np.bincount(indices.ravel(), minlength=VOID + 1)
    present = [k for k in np.flatnonzero(counts) if k != 0]
    if not present:
        return drawn
    texts = [f"{_cut(names[k]) if k != VOID else 'void'} {counts[k] / indices.size:.1%}" for k in present]
    below = _legend(texts, [tuple(COLORS[k].tolist()) for k in present], drawn.shape)
    beside = ((0, 0), (0, below.shape[1] - drawn.shape[1]), (0, 0))
    return np.concatenate([np.pad(drawn, beside, constant_values=255), below])


def _cut(name):
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _legend(texts, fills, shape):
    """A strip with a patch of each color and its text, in lines as wide as an image of `shape`, or one entry."""
    side = math.sqrt(shape[0] * shape[1])
    font = ImageFont.load_default(max(drawing.SMALLEST_TEXT, round(side / drawing.PIXELS_PER_TEXT)))
    line = sum(font.getmetrics()) + 2
    widths = [math.ceil(font.getlength(text)) + 2 * line for text in texts]
    width = max(shape[1], *widths)
    places, left, top = [], 0, 0
    for wide in widths:
        if left + wide > width:
            left, top = 0, top + line
        places.append((left, top))
        left += wide
    ground = Image.new("RGB", (width, top + line), drawing.WHITE)
    pen = ImageDraw.Draw(ground)
    for text, fill, (left, top) in zip(texts, fills, places, strict=True):
        pen.rectangle((left + 2, top + 2, left + line - 3, top + line - 3), fill=fill, outline=drawing.BLACK)
        pen.text((left + line + 2, top + 1), text, drawing.BLACK, font)
    return np.asarray(ground)
