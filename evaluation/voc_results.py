"""The result files of the VOC devkit: VOC<year>/Main/comp4_det_<split>_<class>.txt, a line a detection.

    000004 0.702732 89 112 516 466

Image id, score, xmin, ymin, xmax, ymax, in pixels that count from 1, both ends included; any decimals. Files that
programs write for comp3 (training on VOC's images alone) are read as well.
"""

from collections import Counter, defaultdict
import math
from pathlib import Path, PurePosixPath
import re
from typing import NamedTuple

import numpy as np

from data_processing.sources import voc
from evaluation.average_precision import Detections
from utils.files import write_text

COMPETITION = "comp4"


class Images(NamedTuple):
    """The images that results are of.

    Attributes:
      years: of VOC, (2007,).
      split: name of their list, "test".
      ids: of the images, in the order of the list.
      left_out: ids of images of the list that cannot be judged; detections in them are ignored.
    """

    years: tuple
    split: str
    ids: list
    left_out: set = frozenset()


class Results(NamedTuple):
    """What result files hold.

    Attributes:
      detections: `Detections` by index of the image in `Images.ids` and of the class in `voc.CLASSES`; of a class in
        the order of its file.
      missing: the files of classes, VOC<year>/Main/…, that are not there.
      ignored: how many detections are in images that were left out.
    """

    detections: Detections
    missing: list
    ignored: int


def read(folder, images) -> Results:
    """Returns the `Results` in `folder`, which holds VOC<year>/Main or results/VOC<year>/Main, for `Images`.

    Raises ValueError, with file and line, for what is no detection of these images; or if there is no file at all.
    """
    number_of = {name: k for k, name in enumerate(images.ids)} | dict.fromkeys(images.left_out, -1)
    rows, missing = [], []
    for year in images.years:
        paths = _paths(Path(folder), year, images.split)
        for label, name in enumerate(voc.CLASSES):
            if name in paths:
                rows += [(label, *row) for row in _rows(paths[name], number_of, images.split)]
            else:
                missing.append(f"VOC{year}/Main/{_file_name(images.split, name)}")
    if len(missing) == len(voc.CLASSES) * len(images.years):
        raise ValueError(
            f"--voc_results={folder}: there is none of {missing[0]} and so on, nor in {Path(folder, 'results')}; give "
            "the folder that holds VOC<year>/, and with --split the list that the files are named after"
        )
    values = np.array(rows, np.float64).reshape(-1, 7)
    judged = values[values[:, 1] >= 0]
    label, image = judged[:, :2].astype(np.int64).T
    box = judged[:, 3:] - [1, 1, 0, 0]
    return Results(Detections(image, label, box, judged[:, 2]), missing, len(values) - len(judged))


def _file_name(split, name):
    return f"{COMPETITION}_det_{split}_{name}.txt"


def _paths(folder, year, split):
    """Returns {class: path} of the files of a year."""
    main = next(
        (path for path in (folder / f"VOC{year}/Main", folder / f"results/VOC{year}/Main") if path.is_dir()), None
    )
    found = {}
    for path in sorted(main.iterdir()) if main else ():
        match = re.fullmatch(rf"comp[34]_det_{re.escape(split)}_(.+)\.txt", path.name)
        if not match:
            continue
        name = match[1]
        if name not in voc.CLASSES:
            raise ValueError(f"{path}: VOC has no class '{name}'; its classes are {', '.join(voc.CLASSES)}")
        if name in found:
            raise ValueError(f"{path}: there is {found[name].name}, too; leave one of the two in the folder")
        found[name] = path
    return found


def _rows(path, number_of, split):
    """Yields image, score, xmin, ymin, xmax, ymax of each line of a file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields:
                continue
            try:
                _, *texts = fields
                score, left, top, right, bottom = values = [float(text) for text in texts]
            except ValueError:
                raise _error(path, number, f"'{line.strip()}' is not an id and five numbers") from None
            if not all(map(math.isfinite, values)):
                raise _error(path, number, "a number is not finite")
            if fields[0] not in number_of:
                raise _error(path, number, f"the list {split}.txt has no image '{fields[0]}'")
            if right < left or bottom < top:
                raise _error(path, number, f"the box {' '.join(texts[1:])} has a max below its min")
            yield number_of[fields[0]], score, left, top, right, bottom


def _error(path, number, what):
    return ValueError(f"{path}:{number}: {what}; write lines 'id score xmin ymin xmax ymax', in pixels from 1")


def write(folder, split, image_names, class_names, detections):
    """Writes a file for each class into `folder`/VOC<year>/Main or, of images that are not VOC's, into `folder`/Main.

    Numbers have all their digits, so that what is read again gives the same average precision. The id of an image that
    is not VOC's is its name without folder and ending, or with the folder where several have one name, and without
    white space.

    Args:
      folder: to write into.
      split: name of the list that the images are of.
      image_names: of the images: their paths in the records.
      class_names: of the classes; each another.
      detections: `Detections`, of these images and classes.

    Returns the folders that were written into.
    """
    years = [voc.year(name) for name in image_names]
    ids = [voc.image_id(name) for name in image_names] if all(years) else _ids(image_names)
    lines = defaultdict(list)
    for image, label, box, score in zip(*(column.tolist() for column in detections), strict=True):
        left, top, right, bottom = box
        line = f"{ids[image]} {score:.9g} {left + 1!r} {top + 1!r} {right!r} {bottom!r}\n"
        lines[years[image] if all(years) else None, label].append(line)
    folders = {
        year: Path(folder, f"VOC{year}" if year else "", "Main") for year in (set(years) if all(years) else [None])
    }
    for year, path in folders.items():
        path.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(class_names):
            write_text(path / _file_name(split, name.replace("/", "_")), "".join(lines[year, label]))
    return sorted(folders.values())


def _ids(names):
    paths = [PurePosixPath("_".join(name.split())) for name in names]
    count = Counter(path.stem for path in paths)
    return [path.stem if count[path.stem] == 1 else str(path.with_suffix("")) for path in paths]
