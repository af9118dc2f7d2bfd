"""PASCAL VOC's objects: boxes, classes, difficult and truncated, from a devkit's folder or its published tars.

A box is [left, top, right, bottom] in pixels, edges from 0: VOC's xmin, ymin, xmax and ymax, which count from 1 and
include both ends, become [xmin - 1, ymin - 1, xmax, ymax].
"""

from typing import NamedTuple

import numpy as np

CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor".split()
)


class Objects(NamedTuple):
    """The objects of an image, in the order of its annotation.

    Attributes:
      box: float64 [n, 4], left, top, right, bottom in pixels, inside the image.
      names: of their classes, of CLASSES.
      difficult, truncated: bool [n].
      width, height: of the image in pixels, as annotated; None where the annotation does not say.
      where: the annotation's file, for messages.
    """

    box: np.ndarray
    names: list[str]
    difficult: np.ndarray
    truncated: np.ndarray
    width: int | None
    height: int | None
    where: str


def objects(place, years, split, bad=None) -> dict[str, Objects]:
    """Returns the objects of the images of a split, by the images' ids, in the order of the split; reads no image.

    Args:
      place: VOCdevkit, the folder that holds it, VOC2007 itself, the folder of the published tars, or tars between ",".
      years: (2007,), (2012,) or (2007, 2012).
      split: name of a list in ImageSets/Main: "test", "trainval".
      bad: a list, to which (file, reason) of each annotation that cannot be used is added; such images are left out.

    Raises SourceError if a year or its list is not there.
    """
    raise NotImplementedError


def image_id(path) -> str:
    """Returns the id of an image by its path in records: "000001" of "VOC2007/JPEGImages/000001.jpg"."""
    raise NotImplementedError


def year(path) -> int | None:
    """Returns the year of an image by its path in records, 2007 of "…/VOC2007/JPEGImages/000001.jpg"; None without."""
    raise NotImplementedError


def years(source) -> tuple[int, ...]:
    """Returns the years of a source, (2007, 2012) of "voc2007+2012:PLACE"; () if it is no VOC."""
    raise NotImplementedError
