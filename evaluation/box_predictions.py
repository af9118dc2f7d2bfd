"""What object_detection.py writes: COCO's format of results, with the names that its ids stand for.

A list in which each object of each image is
    {"image_id", "category_id", "bbox": [left, top, width, height], "score", "file_name", "category_name"}
in pixels of the image, images in their order and objects by their scores. The last two are ours; COCO's own program
passes them over. `category_id` is the index of the class and 1: COCO counts from 1, and keeps 0 for no class.
"""

import json
import os
from typing import NamedTuple

import numpy as np

from evaluation.predictions import path_of

# More digits are no number of 64 bits, which COCO's program takes.
MOST_DIGITS = 18


class FoundObjects(NamedTuple):
    """What was found in an image, the likeliest first.

    Attributes:
      boxes: float32 [objects, 4], left, top, right, bottom, in pixels.
      scores: float32 [objects], in [0, 1].
      classes: int32 [objects], indices.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def above(self, threshold):
        """Returns the objects whose score is `threshold` at least."""
        kept = (self.classes >= 0) & (self.scores >= threshold)
        return FoundObjects(*(array[kept] for array in self))


def image_ids(files):
    """Returns COCO's id for each image of a list, and what it is.

    It is the number that is the file's name, where all files of `files`, which have a `file`, are called by different
    numbers, as in COCO and VOC; else the place in the list, from 1.
    """
    stems = [os.path.splitext(os.path.basename(image.file))[0] for image in files]
    if all(stem.isascii() and stem.isdecimal() and len(stem) <= MOST_DIGITS for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids):
            return ids, "the numbers that the files are called"
    return list(range(1, len(files) + 1)), "the images' places, from 1"


def as_text(image, objects, names):
    """Returns the lines for an image, which has `name` and `label`, and its `FoundObjects`: name, score and bbox."""
    header = f"{image.name}\t{image.label}" if image.label else image.name
    lines = [header]
    for box, score, index in zip(*objects, strict=True):
        left, top, right, bottom = box
        numbers = ", ".join(f"{value:.1f}" for value in (left, top, right - left, bottom - top))
        lines.append(f"{names[index]}: {score:.3f} [{numbers}]")
    return "\n".join(lines)


def rows(image, image_id, objects, names):
    """Yields what stands in the file of each of the `FoundObjects` of an image; names by index."""
    for box, score, index in zip(*(array.tolist() for array in objects), strict=True):
        left, top, right, bottom = box
        yield {
            "image_id": image_id,
            "category_id": index + 1,
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "score": round(score, 6),
            "file_name": path_of(image),
            "category_name": names[index],
        }


def write(path, found):
    """Writes a list of the rows that `found` yields, a line each; returns how many."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for count, row in enumerate(found, start=1):
            file.write(("\n" if count == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")
    return count
