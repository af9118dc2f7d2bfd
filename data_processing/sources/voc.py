"""PASCAL VOC's objects: boxes, classes, difficult and truncated, from a devkit's folder or its published tars.

A box is [left, top, right, bottom] in pixels, edges from 0: VOC's xmin, ymin, xmax and ymax, which count from 1 and
include both ends, become [xmin - 1, ymin - 1, xmax, ymax].
"""

from collections.abc import Iterator
import math
from pathlib import PurePosixPath
import re
from typing import NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
import numpy as np

from data_processing.lists import box_list
from data_processing.sources import voc_files
from data_processing.sources.labeled_images import Source, SourceError

CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor".split()
)
YEARS = {"voc2007": (2007,), "voc2012": (2012,), "voc2007+2012": (2007, 2012)}
# The longest of VOC has 13 kB; a list of all images of 2012 has 0.2 MB.
MAX_XML, MAX_LIST = 2**20, 2**24
ID = re.compile(r"\w[\w.-]*")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
EDGES = ("xmin", "ymin", "xmax", "ymax")


class AnnotationError(ValueError):
    """An annotation is not as it must be; the message says why, not which."""


class Annotation(NamedTuple):
    """What an annotation says of an image: its objects, in their order, and its size.

    Attributes:
      box: float64 [n, 4], left, top, right, bottom in pixels, as annotated, where that is outside the image, too.
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


def annotations(place, years, split, bad=None) -> dict[str, Annotation]:
    """Returns the annotations of the images of a split, by the images' ids, in the order of the split; reads no image.

    Args:
      place: VOCdevkit, the folder that holds it, VOC2007 itself, the folder of the published tars, or tars between ",".
      years: (2007,), (2012,) or (2007, 2012).
      split: name of a list in ImageSets/Main: "test", "trainval".
      bad: a list, to which (file, reason) of each annotation that cannot be used is added; such images are left out.

    Raises SourceError if a year or its list is not there.
    """
    found, unusable = {}, []
    for devkit in voc_files.find(place, years)[1].values():
        for name, annotated in _split(devkit, split):
            if isinstance(annotated, Annotation):
                found[name] = annotated
            else:
                unusable.append((devkit.where(f"Annotations/{name}.xml"), annotated))
    if bad is not None:
        bad += unusable
    return found


def read(source) -> Source:
    """Returns the images of a source, a key of YEARS with its place: "voc2007+2012:VOCdevkit".

    Those of trainval of all years are for training, those of the test of 2007 for validation; without that test, those
    of the lists train and val.
    """
    kind, _, place = source.partition(":")
    root, devkits = voc_files.find(place, YEARS[kind])
    has_test = 2007 in devkits and devkits[2007].has("ImageSets/Main/test.txt")
    train, val = ("trainval", "test") if has_test else ("train", "val")
    rows = {
        train: [row for devkit in devkits.values() for row in _rows(devkit, train)],
        val: [row for year, devkit in devkits.items() if not has_test or year == 2007 for row in _rows(devkit, val)],
    }
    return Source(root, list(CLASSES), rows[train], rows[val], kind="boxes", lists={"train": train, "val": val})


def years(source) -> tuple[int, ...]:
    """Returns the years of a source, (2007, 2012) of "voc2007+2012:PLACE"; () if it is no VOC."""
    return YEARS.get(source.partition(":")[0], ())


def image_id(path) -> str:
    """Returns the id of an image by its path in records: "000001" of "VOC2007/JPEGImages/000001.jpg"."""
    return PurePosixPath(path).stem


def year(path) -> int | None:
    """Returns the year of an image by its path in records, 2007 of "…/VOC2007/JPEGImages/000001.jpg".

    None where no folder says it: of a place that is VOC2007 itself, under another name.
    """
    match = re.search(r"(?:^|/)VOC(\d{4})/JPEGImages/[^/]+$", path)
    return int(match[1]) if match else None


def _rows(devkit, split):
    """Yields a `box_list.Row` of each image of a split."""
    for name, annotated in _split(devkit, split):
        path = devkit.image(f"JPEGImages/{name}.jpg")
        if isinstance(annotated, str):
            yield box_list.Row(path, None, (), f"annotation: {annotated}")
            continue
        columns = annotated.box.tolist(), annotated.names, annotated.difficult.tolist(), annotated.truncated.tolist()
        boxes = (box_list.Box(CLASSES.index(label), *box, *flags) for box, label, *flags in zip(*columns, strict=True))
        size = annotated.width and (annotated.width, annotated.height)
        try:
            # VOC's own program judges by boxes as they are annotated; what is trained on is in the image.
            yield box_list.Row(path, size, box_list.fit(boxes, *(size or (math.inf, math.inf))))
        except box_list.BoxError as error:
            yield box_list.Row(path, None, (), f"annotation: {error}")


def _split(devkit, split) -> Iterator[tuple[str, Annotation | str]]:
    """Yields the id of each image of a split, once, and its `Annotation` or why its annotation cannot be used."""
    for name in ids(devkit, f"ImageSets/Main/{split}.txt"):
        where = devkit.where(f"Annotations/{name}.xml")
        try:
            if not ID.fullmatch(name):
                raise AnnotationError("no id of an image in the list")
            yield name, parse(devkit.read(f"Annotations/{name}.xml", MAX_XML), where)
        except (voc_files.Unreadable, AnnotationError) as error:
            yield name, str(error)


def ids(devkit, list_name) -> list[str]:
    """Returns the ids, each once, of a list "ImageSets/Main/train.txt". Raises SourceError if it cannot be read."""
    try:
        text = devkit.read(list_name, MAX_LIST).decode("utf-8-sig")
    except (voc_files.Unreadable, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        split = PurePosixPath(list_name).stem
        raise SourceError(
            f"{devkit.where(list_name)}: {reason}; it must list the images of {split}, an id a line"
        ) from error
    return list(dict.fromkeys(line.split()[0] for line in text.split("\n") if line.strip()))


def parse(data, where) -> Annotation:
    """Returns the `Annotation` of an annotation's XML, as bytes.

    Raises AnnotationError for XML that is broken or has a document type, where bombs are hidden, an object without a
    name of CLASSES or a box, and other numbers than there may be.
    """
    try:
        root = fromstring(data, forbid_dtd=True)
    except ParseError as error:
        raise AnnotationError(f"broken XML: {error}") from error
    except DefusedXmlException as error:
        raise AnnotationError("XML with a document type or entities, which no annotation of VOC has") from error
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that is none
        raise AnnotationError(f"broken XML: {error}") from error
    if root.tag != "annotation":
        raise AnnotationError(f"XML of <{root.tag[:40]}>, not of <annotation>")
    width, height = _size(root)
    boxes = [_box(element, f"object {k}") for k, element in enumerate(root.findall("object"), start=1)]
    return Annotation(
        np.array([box.edges for box in boxes], np.float64).reshape(-1, 4),
        [CLASSES[box.label] for box in boxes],
        np.array([box.difficult for box in boxes], bool),
        np.array([box.truncated for box in boxes], bool),
        width,
        height,
        where,
    )


def _size(root):
    """The width and height that an annotation says, or None twice."""
    if (size := root.find("size")) is None:
        return None, None
    width, height = (_number(size, name, "size") for name in ("width", "height"))
    if not (width >= 1 and height >= 1 and width == int(width) and height == int(height) and max(width, height) < 1e9):
        raise AnnotationError(f"size {width:g} x {height:g}; correct it, or take <size> away")
    return int(width), int(height)


def _box(element, where):
    """The `box_list.Box` of an <object>, without the parts in it, which have boxes of their own."""
    name = (element.findtext("name") or "").strip()
    if name not in CLASSES:
        raise AnnotationError(f"{where}: {name[:40]!r} is no class of VOC")
    if (bndbox := element.find("bndbox")) is None:
        raise AnnotationError(f"{where} ({name}) has no bndbox")
    xmin, ymin, xmax, ymax = (_number(bndbox, edge, f"{where} ({name})") for edge in EDGES)
    if xmax < xmin or ymax < ymin:
        raise AnnotationError(f"{where} ({name}): xmin {xmin:g}, ymin {ymin:g} above xmax {xmax:g}, ymax {ymax:g}")
    flags = []
    for flag in box_list.FLAGS:
        text = (element.findtext(flag) or "0").strip()
        if text not in ("0", "1"):
            raise AnnotationError(f"{where} ({name}): {flag} is {text[:40]!r}, neither 0 nor 1")
        flags.append(text == "1")
    return box_list.Box(CLASSES.index(name), xmin - 1, ymin - 1, xmax, ymax, *flags)


def _number(element, name, where):
    text = (element.findtext(name) or "").strip()
    value = float(text) if len(text) < 99 and NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(value):
        raise AnnotationError(f"{where}: {name} is {text[:40]!r}, no number")
    return value
