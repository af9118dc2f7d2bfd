"""Boxes drawn into images: a line and a caption each, in the color of its class."""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Of a square image so many pixels wide, a line is one pixel wide, and letters are one pixel high.
PIXELS_PER_LINE, PIXELS_PER_TEXT = 200, 36
# Smaller letters cannot be read.
SMALLEST_TEXT = 10
# Steps of this share of the color circle keep any number of hues apart (the golden section).
HUE_STEP = (math.sqrt(5) - 1) / 2
LIGHTNESS = (0.5, 0.72, 0.34)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def color_of(index):
    """Returns the color of a class, always the same, as (red, green, blue) from 0 to 255."""
    rgb = colorsys.hls_to_rgb(index * HUE_STEP % 1, LIGHTNESS[index % len(LIGHTNESS)], 0.95)
    return tuple(round(255 * value) for value in rgb)


def draw(image, boxes, captions, colors):
    """Returns a copy of an image with boxes and captions drawn into it, uint8 [height, width, 3].

    Lines have an edge of black or white, so that they stand out from any ground; a caption has a ground of its own. It
    stands above its box or, where the image ends or another caption is, inside or below. One that is wider than the
    image is cut, one that is higher left out. Lines and letters grow with the image.

    Args:
      image: uint8 [height, width, 3], RGB.
      boxes: float [n, 4], left, top, right, bottom, in pixels. They may reach out of the image; one that has no area in
        it is left out. The first lie over the others.
      captions: n texts; the empty ones are not drawn.
      colors: n colors, (red, green, blue) from 0 to 255, as of `color_of`.
    """
    pixels = np.array(image)
    height, width = pixels.shape[:2]
    side = math.sqrt(height * width)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    marks = [
        (area, " ".join(caption.split()), tuple(color))
        for box, caption, color in zip(boxes, captions, colors, strict=True)
        if (area := _area(box, (width, height)))
    ]
    for area, _, color in reversed(marks):
        _draw_line(pixels, area, color, max(1, round(side / PIXELS_PER_LINE)))
    canvas = Image.fromarray(pixels)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(max(SMALLEST_TEXT, round(side / PIXELS_PER_TEXT)))
    for text, color, place in reversed([*_placed(marks, font, canvas.size)]):
        pen.rectangle(place, fill=color)
        pen.text((place[0] + 1, place[1]), text, _contrast(color), font)
    return np.asarray(canvas)


def _area(box, size):
    """The first and last column and row of a box's pixels in an image of `size`, (left, top, right, bottom); or None.

    A box is cut at the image's edges, and is a pixel wide and high at least.
    """
    if not np.isfinite(box).all() or (box[2:] <= 0).any() or (box[:2] >= size).any() or (box[2:] <= box[:2]).any():
        return None
    first = np.minimum(np.maximum(np.round(box[:2]), 0), np.subtract(size, 1))
    last = np.maximum(np.minimum(np.round(box[2:]), size) - 1, first)
    return tuple(int(value) for value in (*first, *last))


def _draw_line(pixels, area, color, width):
    """A line along the inside of `area`, between two thin ones of black or white."""
    left, top, right, bottom = area
    thin = max(1, width // 3)
    inside = pixels[top : bottom + 1, left : right + 1]
    for inset, line, fill in ((0, width + 2 * thin, _contrast(color)), (thin, width, color)):
        height, length = inside.shape[:2]
        frame = inside[inset : height - inset, inset : length - inset]
        for side in (frame[:line], frame[-line:], frame[:, :line], frame[:, -line:]):
            side[...] = fill


def _contrast(color):
    """Black or white, whichever is farther from `color` by its luma."""
    return BLACK if np.dot(color, (0.299, 0.587, 0.114)) > 127 else WHITE


def _placed(marks, font, size):
    """Yields text, color and place, an area, of the captions of `marks` that there is room for."""
    width, height = size
    text_height = sum(font.getmetrics())
    taken = []
    for area, text, color in marks:
        while text and font.getlength(text) + 2 > width:
            text = text.rstrip("…")[:-1].rstrip() + "…" if len(text) > 1 else ""
        if not text or text_height > height:
            continue
        text_width = math.ceil(font.getlength(text)) + 1
        left = max(min(area[0], width - 1 - text_width), 0)
        tops = [area[1] - text_height, area[1], area[3] - text_height + 1, area[3] + 1]
        places = [(left, top, left + text_width, top + text_height - 1) for top in tops]
        places = [place for place in places if place[1] >= 0 and place[3] < height]
        free = [place for place in places if not any(_overlap(place, other) for other in taken)]
        if place := next(iter(free or places), None):
            taken.append(place)
            yield text, color, place


def _overlap(one, other):
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
