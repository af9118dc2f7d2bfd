"""COCO's instances_*.json as a source of boxes: coco:IMAGES,ANNOTATIONS.json.

A box is [left, top, right, bottom] in pixels: COCO's [x, y, width, height] becomes [x, y, x + width, y + height].
Crowds, which no single box is right for, are difficult.
"""

import math
from pathlib import Path
import re

from data_processing.lists import box_list, image_list
from data_processing.sources import coco
from data_processing.sources.labeled_images import Source, SourceError
from data_processing.sources.table import Collector, report_lines

KEPT = coco.KEPT | {"bbox", "iscrowd", "width", "height"}


def places(place) -> tuple[Path, Path]:
    """Returns the folder of images and the file of annotations of IMAGES,ANNOTATIONS.json; either may hold commas."""
    for comma in re.finditer(",", place):
        images, annotations = Path(place[: comma.start()]), Path(place[comma.end() :])
        if images.is_dir() and annotations.is_file():
            return images, annotations
    raise SourceError(
        f"--dataset=coco:{place}: not IMAGES,ANNOTATIONS.json of a folder and a file that are there, like "
        "coco:val2017,annotations/instances_val2017.json"
    )


def read(place) -> Source:
    """Returns the images of a file of annotations, in its order, and its categories, in theirs; prints what is odd.

    Raises SourceError if the file is not of this kind, or has images or categories that are not as they must be. Images
    with an annotation that is not are `box_list.Row`s with a `problem`.
    """
    images, path = places(place)
    data = coco.load(path, KEPT)
    found = Collector(path)
    names = coco.by_id(data["images"], "images", "file_name", found)
    categories = coco.by_id(data["categories"], "categories", "name", found)
    if found.errors:
        raise SourceError("\n".join(report_lines(found.errors)))
    if not names or not categories:
        raise SourceError(f"{path}: no {'categories' if names else 'images'} in it; is it the right file?")
    categories = {key: found.name(name) for key, name in categories.items()}
    classes = list(dict.fromkeys(categories.values()))
    index = {name: k for k, name in enumerate(classes)}
    numbers = {key: index[name] for key, name in categories.items()}
    boxes, problems = _boxes(data["annotations"], names, numbers, found)
    rows = {}
    for k, entry in enumerate(data["images"]):
        key, name = entry["id"], entry["file_name"]
        if not image_list.can_hold(name):
            found.note("images left out, whose path is empty or holds a tab or line end", f"images[{k}]: {name!r}")
            continue
        row = box_list.Row(name, None, boxes[key], problems.get(key, ""))
        row = _fitted(row, entry, f"images[{k}]")
        if name in rows:
            row = row._replace(problem=f"images[{k}] and another have this file_name")
        rows[name] = row
    for line in report_lines(found.notes):
        print(f"{path}: {line}")
    if not rows:
        raise SourceError(f"{path}: no image in it whose path can be used")
    return Source(images, classes, list(rows.values()), kind="boxes")


def _fitted(row, entry, where):
    """A row with the size of its entry of images, if it says one, which the boxes must be in."""
    sides = [entry.get("width"), entry.get("height")]
    if row.problem or sides == [None, None]:
        return row
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 10**9 for side in sides):
        return row._replace(problem=f"{where}: width and height are no numbers of pixels")
    try:
        return row._replace(size=tuple(sides), boxes=box_list.fit(row.boxes, *sides))
    except box_list.BoxError as error:
        return row._replace(problem=f"{where}: {error}")


def _boxes(annotations, names, numbers, found):
    """{image id: its boxes}, and {image id: what is wrong with the first annotation that cannot be used}."""
    boxes, problems = {key: [] for key in names}, {}
    for k, entry in enumerate(annotations):
        image = entry.get("image_id") if isinstance(entry, dict) else None
        if not coco.is_id(image) or image not in names:
            found.note("annotations left out, whose image_id is of no entry", f"annotations[{k}]")
            continue
        try:
            boxes[image].append(_box(entry, numbers))
        except box_list.BoxError as error:
            problems.setdefault(image, f"annotations[{k}]: {error}")
    return {key: tuple(value) for key, value in boxes.items()}, problems


def _box(entry, numbers):
    category, bbox, crowd = entry.get("category_id"), entry.get("bbox"), entry.get("iscrowd", 0)
    if not coco.is_id(category) or category not in numbers:
        raise box_list.BoxError("category_id is of no entry")
    is_box = isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox))
    if not is_box:
        raise box_list.BoxError("bbox is not [x, y, width, height]")
    if crowd not in (0, 1):
        raise box_list.BoxError("iscrowd is neither 0 nor 1")
    x, y, width, height = map(float, bbox)
    if width <= 0 or height <= 0:
        raise box_list.BoxError(f"bbox has width {width:g} and height {height:g}")
    return box_list.Box(numbers[category], x, y, x + width, y + height, difficult=bool(crowd))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
