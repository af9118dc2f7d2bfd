"""The result files of the VOC devkit: VOC<year>/Main/comp4_det_<split>_<class>.txt, a line a detection.

    000004 0.702732 89 112 516 466

Image id, score, xmin, ymin, xmax, ymax, in pixels that count from 1, both ends included; any decimals. A box whose max
is below its min overlaps nothing, and so is wrong, as it is to the devkit. Files that programs write for comp3
(training on VOC's images alone) are read as well.
"""

from collections import Counter, defaultdict
import contextlib
import math
from pathlib import Path, PurePosixPath
import re
from typing import NamedTuple

import numpy as np

from data_processing.images import archives, image_files
from data_processing.sources import voc, voc_files
from evaluation import outputs
from evaluation.average_precision import Detections, TrueObjects
from utils.files import write_text

COMPETITION = "comp4"


class Source(NamedTuple):
    """Images of VOC: "voc2007:PLACE", see `voc.annotations`, and the name of their list, "test"."""

    dataset: str
    split: str

    @property
    def years(self):
        return voc.years(self.dataset)

    @property
    def place(self):
        return self.dataset.partition(":")[2]


class Truth(NamedTuple):
    """The ground truth that results are judged by.

    Attributes:
      source: the `Source`.
      ids: of the images, in the order of the list.
      objects: `TrueObjects` by index of the image in `ids` and of the class in `voc.CLASSES`.
      bad: "file: reason" of annotations that cannot be used, whose images are left out.
      left_out: ids of these images.
    """

    source: Source
    ids: list
    objects: TrueObjects
    bad: list
    left_out: set

    def read_images(self, ids):
        """Returns {id: uint8 [height, width, 3]} of some of the images; those that cannot be read are left out."""
        root, devkits = voc_files.find(self.source.place, self.source.years)
        found = {}
        for one in ids:
            name = f"JPEGImages/{one}.jpg"
            paths = [devkit.image(name) for devkit in devkits.values() if devkit.has(name)]
            with contextlib.suppress(OSError, image_files.ImageError):
                for path in paths[:1]:
                    data = archives.read_file(root, path, image_files.MAX_PIXELS)
                    found[one] = image_files.decode(data)
        return found


class Results(NamedTuple):
    """What result files hold.

    Attributes:
      detections: `Detections` by index of the image in `Truth.ids` and of the class in `voc.CLASSES`; of a class in
        the order of its file.
      missing: the files of classes, VOC<year>/Main/…, that are not there.
      ignored: how many detections are in images that were left out.
      empty: how many detections have a max below their min.
    """

    detections: Detections
    missing: list
    ignored: int
    empty: int


def read_truth(source, max_skipped) -> Truth:
    """Returns the `Truth` of a `Source`.

    Raises ValueError if it is not of VOC or not there, or if a larger share than `max_skipped` of its annotations
    cannot be used; of 20 or more one may be.
    """
    if not source.years or not source.place:
        raise ValueError(f"--dataset={source.dataset}: name what --voc_results are of, as voc2007:VOCdevkit")
    bad = []
    annotated = voc.annotations(source.place, source.years, source.split, bad)
    if len(bad) > image_files.most_rejected(len(annotated) + len(bad), max_skipped) or not annotated:
        raise ValueError(
            f"{len(bad):,} of {len(annotated) + len(bad):,} annotations cannot be used, more than --max_skipped="
            f"{max_skipped:g} ({'; '.join(': '.join(one) for one in bad[:3])}); mend them, or allow more"
        )
    every = list(annotated.values())
    objects = TrueObjects(
        np.repeat(np.arange(len(every)), [len(one.names) for one in every]),
        np.array([voc.CLASSES.index(name) for one in every for name in one.names], np.int64),
        np.concatenate([one.box for one in every]),
        np.concatenate([one.difficult for one in every]),
    )
    left_out = {voc.image_id(file) for file, _ in bad}
    return Truth(source, list(annotated), objects, [": ".join(one) for one in bad], left_out)


def read(folder, truth) -> Results:
    """Returns the `Results` in `folder`, which holds VOC<year>/Main or results/VOC<year>/Main, for a `Truth`.

    Raises ValueError, with file and line, for what is no detection in these images; or if there is no file at all.
    """
    years, split = truth.source.years, truth.source.split
    number_of = {name: k for k, name in enumerate(truth.ids)} | dict.fromkeys(truth.left_out, -1)
    rows, missing = [], []
    for year in years:
        paths = _paths(Path(folder), year, split)
        for label, name in enumerate(voc.CLASSES):
            if name in paths:
                rows += [(label, *row) for row in _rows(paths[name], number_of, split)]
            else:
                missing.append(f"VOC{year}/Main/{_file_name(split, name)}")
    if len(missing) == len(voc.CLASSES) * len(years):
        raise ValueError(
            f"--voc_results={folder}: there is none of {missing[0]} and so on, nor in {Path(folder, 'results')}; give "
            "the folder that holds VOC<year>/, and with --split the list that the files are named after"
        )
    values = np.array(rows, np.float64).reshape(-1, 7)
    judged = values[values[:, 1] >= 0]
    label, image = judged[:, :2].astype(np.int64).T
    box = judged[:, 3:] - [1, 1, 0, 0]
    empty = int((judged[:, 3:5] > judged[:, 5:]).any(axis=1).sum())
    return Results(Detections(image, label, box, judged[:, 2]), missing, len(values) - len(judged), empty)


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
            yield number_of[fields[0]], score, left, top, right, bottom


def _error(path, number, what):
    return ValueError(f"{path}:{number}: {what}; write lines 'id score xmin ymin xmax ymax', in pixels from 1")


def write(folder, split, evaluator):
    """Writes a file for each class into `folder`/VOC<year>/Main or, of images that are not VOC's, into `folder`/Main.

    Images with the classes of VOC that say no year are of 2007.

    Numbers have all their digits: of boxes and scores of float32, edges below 2e-9 pixels alone come back rounded, and
    the order of scores is the same. The id of an image that is not VOC's is its name without folder and ending, or with
    the folder where several have one name, or with its number where that is not enough either; without white space.

    Args:
      folder: to write into.
      split: name of the list that the images are of.
      evaluator: a `detection.DetectionEvaluator`, when it has its result.
    """
    names, class_names = evaluator.image_names, outputs.unique_names(evaluator.names)
    # Where classes are VOC's, so are images whose folder says no year: of TensorFlow Datasets, or one called otherwise.
    otherwise = 2007 if class_names == list(voc.CLASSES) else None
    years = [voc.year(name) or otherwise for name in names]
    of_voc = all(years)
    ids = [voc.image_id(name) for name in names] if of_voc else _ids(names)
    lines = defaultdict(list)
    for image, label, box, score in zip(*(column.tolist() for column in evaluator.detections), strict=True):
        left, top, right, bottom = box
        line = f"{ids[image]} {score:.9g} {left + 1!r} {top + 1!r} {right!r} {bottom!r}\n"
        lines[years[image] if of_voc else None, label].append(line)
    for year in set(years) if of_voc else [None]:
        main = Path(folder, f"VOC{year}" if year else "", "Main")
        main.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(class_names):
            write_text(main / _file_name(split, name.replace("/", "_")), "".join(lines[year, label]))


def _ids(names):
    paths = [PurePosixPath("_".join(name.split())) for name in names]
    count = Counter(path.stem for path in paths)
    ids = [path.stem if count[path.stem] == 1 else str(path.parent / path.stem) for path in paths]
    return ids if all(ids) and len(set(ids)) == len(ids) else [f"{k}_{path}" for k, path in enumerate(paths)]
