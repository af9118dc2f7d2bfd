"""The box list: one image a line, the size in pixels that its boxes were drawn in, and the boxes.

    path<TAB>WIDTHxHEIGHT<TAB>class:left,top,right,bottom<TAB>class:left,top,right,bottom:difficult,truncated…
    path<TAB>!why no record can be made of it

A box's edges are in pixels from the image's left and top, so that one over the whole image is 0,0,WIDTH,HEIGHT. The
size is "-" where nobody says it. Lines are read where an offset says, as those of an `image_list`.
"""

import math
import re
from typing import NamedTuple

from data_processing.lists import image_list
from data_processing.lists.image_list import ImageListError
from utils.files import atomic_write

# A box may reach over the image by so much, and is clipped: annotations are rounded.
TOLERANCE = 1.0
BAD, NO_SIZE = "!", "-"
SIZE = re.compile(r"([1-9]\d{0,8})x([1-9]\d{0,8})", re.ASCII)
FLAGS = ("difficult", "truncated")


class BoxError(ValueError):
    """The boxes of an image cannot be used; the message says why."""


class Box(NamedTuple):
    """One object: its class, its edges in pixels, and whether it is marked as difficult and as truncated."""

    label: int
    left: float
    top: float
    right: float
    bottom: float
    difficult: bool = False
    truncated: bool = False

    @property
    def edges(self):
        return self[1:5]


class Row(NamedTuple):
    """One image.

    Attributes:
      path: of the image.
      size: (width, height) in pixels of the image that its boxes were drawn in, or None.
      boxes: the objects.
      problem: why no record can be made of it, or "".
    """

    path: str
    size: tuple[int, int] | None
    boxes: tuple[Box, ...]
    problem: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        """The classes of its objects, each once."""
        return tuple(sorted({box.label for box in self.boxes}))

    @property
    def confidences(self) -> tuple[float, ...]:
        return (1.0,) * len(self.labels)


def fit(boxes, width, height) -> tuple[Box, ...]:
    """Returns boxes clipped to an image; BoxError for one that is outside by more than a pixel, empty or not finite.

    Args:
      boxes: a `Box` each.
      width, height: of the image, in pixels.
    """
    fitting = []
    for k, box in enumerate(boxes, start=1):
        left, top, right, bottom = box.edges
        what = f"box {k} ({left:g}, {top:g}, {right:g}, {bottom:g})"
        if not all(map(math.isfinite, box.edges)):
            raise BoxError(f"{what} is not of finite numbers")
        if right <= left or bottom <= top:
            raise BoxError(f"{what} is empty: right must be above left, and bottom above top")
        if min(left, top) < -TOLERANCE or right > width + TOLERANCE or bottom > height + TOLERANCE:
            raise BoxError(f"{what} is outside of the image, {width} x {height} pixels")
        edges = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
        if edges[0] >= edges[2] or edges[1] >= edges[3]:
            raise BoxError(f"{what} is outside of the image, {width} x {height} pixels")
        fitting.append(Box(box.label, *edges, box.difficult, box.truncated))
    return tuple(fitting)


def parse_line(line, class_num, where, require_labels=False) -> Row:
    """Returns the `Row` of a line.

    Args:
      line: text without its line end.
      class_num: number of classes, or None to accept any index that is not negative.
      where: "FILE:LINE", for the message.
      require_labels: whether a line without boxes is an error.

    Raises ImageListError for what is not in the form above. Whether boxes are inside of the image is not asked.
    """
    path, *fields = line.split("\t")
    if not path.strip() or not fields:
        raise ImageListError(f"{where}: no path and size between tabs; write path, WIDTHxHEIGHT and boxes")
    if fields[0].startswith(BAD):
        return Row(path, None, (), "\t".join(fields).removeprefix(BAD))
    match = SIZE.fullmatch(fields[0])
    if not match and fields[0] != NO_SIZE:
        raise ImageListError(f"{where}: field 2 ('{fields[0][:40]}'): not WIDTHxHEIGHT in pixels, nor {NO_SIZE}")
    boxes = []
    for k, field in enumerate(fields[1:], start=3):
        try:
            boxes.append(_parse_box(field, class_num))
        except ImageListError as error:
            raise ImageListError(f"{where}: field {k} ('{field[:60]}'): {error}") from None
    if require_labels and not boxes:
        raise ImageListError(f"{where}: no boxes; add class:left,top,right,bottom, or drop the line")
    return Row(path, (int(match[1]), int(match[2])) if match else None, tuple(boxes))


def _parse_box(field, class_num):
    label, *rest = field.split(":")
    if not (label.isascii() and label.isdigit()) or len(rest) not in (1, 2):
        raise ImageListError("not class:left,top,right,bottom")
    index = int(label) if len(label) < 19 else 10**18
    if class_num is not None and index >= class_num:
        raise ImageListError(f"the class is not below {class_num}")
    try:
        edges = [float(text) for text in rest[0].split(",")]
    except ValueError:
        edges = []
    flags = rest[1].split(",") if len(rest) == 2 else []
    if len(edges) != 4 or not all(map(math.isfinite, edges)) or not set(flags) <= set(FLAGS):
        raise ImageListError(f"not 4 numbers between commas, and then at most {' and '.join(FLAGS)}")
    return Box(index, *edges, *(flag in flags for flag in FLAGS))


def write(path, rows):
    """Writes `rows` as a list, under a temporary name first. Raises ImageListError for a path that it cannot hold."""
    with atomic_write(path) as temp_path, open(temp_path, "w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows, start=1):
            file.write(format_row(row, f"{path}:{number}"))


def format_row(row, where) -> str:
    """Returns a line, with its end, for a `Row`. Raises ImageListError for a path that could not be read again."""
    if not image_list.can_hold(row.path):
        raise ImageListError(f"{where}: a path is empty, holds a tab or line end, or is not UTF-8: {row.path!r}")
    if row.problem:
        words = " ".join(row.problem.encode("utf-8", "replace").decode().split())
        return f"{row.path}\t{BAD}{words}\n"
    size = f"{row.size[0]}x{row.size[1]}" if row.size else NO_SIZE
    return "\t".join([row.path, size, *map(_format_box, row.boxes)]) + "\n"


def _format_box(box):
    flags = ",".join(name for name in FLAGS if getattr(box, name))
    edges = ",".join(repr(int(edge) if edge == int(edge) else float(edge)) for edge in box.edges)
    return f"{box.label}:{edges}" + (f":{flags}" if flags else "")
