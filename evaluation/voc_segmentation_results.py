"""The devkit's result masks, VOC2012/Segmentation/comp6_<split>_cls/<id>.png, PNGs of class indices, and their worth.

By the devkit's rules (VOCevalseg.m): an image has its truth's size; pixels whose truth is void, 255, do not count; the
others' values are the classes, 0 the background, and any other is an error. In pixels that do not count we let them be:
the devkit does not. Masks for comp5 (training on VOC's images alone) are read as well. No TensorFlow is needed.
"""

import os
from pathlib import Path
import re
from typing import NamedTuple

from tqdm import tqdm

from data_processing.images import image_files
from data_processing.images.image_files import ImageError
from data_processing.sources import voc, voc_files
from evaluation import confusion, outputs, palette
from evaluation.segmentation import SegmentationEvaluator

COMPETITION, OTHER_COMPETITION = "comp6", "comp5"
YEARS = {"voc2012seg": 2012}
CLASSES = ("background", *voc.CLASSES)
# Files that are named of many.
SHOWN = 20
# A file of a devkit, in bytes.
MOST = 4 * image_files.MAX_PIXELS + 2**24


class Source(NamedTuple):
    """Images with masks of VOC: "voc2012seg:PLACE", PLACE as of `voc_files.find`, and the name of their list, "val"."""

    dataset: str
    split: str

    @property
    def year(self):
        return YEARS.get(self.dataset.partition(":")[0])

    @property
    def place(self):
        return self.dataset.partition(":")[2]


class Truth(NamedTuple):
    """The masks that results are judged by; they are read one by one.

    Attributes:
      devkit: of a year, `voc_files.Folder` or `voc_files.Tars`.
      ids: of the images, in the order of the list.
    """

    devkit: object
    ids: list

    def mask(self, name):
        """Returns the mask of an image by its id, uint8 [height, width]. Raises ImageError, which names its file."""
        path = f"SegmentationClass/{name}.png"
        try:
            mask = palette.decode(self.devkit.read(path, MOST))
            check_values(mask, mask != palette.VOID)
        except (voc_files.Unreadable, ImageError) as error:
            raise ImageError(f"{self.devkit.where(path)}: {error}") from error
        return mask

    def image(self, name):
        """Returns an image by its id, uint8 [height, width, 3]. Raises ImageError or `voc_files.Unreadable`."""
        return image_files.decode(self.devkit.read(f"JPEGImages/{name}.jpg", MOST))


def check_values(mask, counted):
    """Raises ImageError if a mask has a value that is no class of VOC where `counted`, bool of its shape."""
    wrong = counted & (mask >= len(CLASSES))
    if wrong.any():
        raise ImageError(f"{wrong.sum():,} pixels of value {mask[wrong].max()}, but the classes are 0 to 20")


def read_truth(source) -> Truth:
    """Returns the `Truth` of a `Source`. Raises ValueError if it is not of VOC, or if its list is not there."""
    if not source.year or not source.place:
        raise ValueError(f"--dataset={source.dataset}: name what --voc_results are of, as voc2012seg:VOCdevkit")
    devkit = voc_files.find(source.place, (source.year,))[1][source.year]
    name = f"ImageSets/Segmentation/{source.split}.txt"
    try:
        lines = devkit.read(name, voc.MAX_LIST).decode("utf-8-sig").split("\n")
    except (voc_files.Unreadable, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{devkit.where(name)}: {reason}; it must list the images of --split={source.split}, an id a line"
        ) from error
    ids = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    if bad := [one for one in ids if not voc.ID.fullmatch(one)]:
        raise ValueError(f"{devkit.where(name)}: '{bad[0]}' is no id of an image; write an id a line")
    if not ids:
        raise ValueError(f"{devkit.where(name)}: there is no image in it; write an id a line")
    return Truth(devkit, ids)


def result_paths(folder, source, ids):
    """Returns {id: path} of the files of results in `folder`, which holds VOC<year>/ or results/VOC<year>/.

    Raises ValueError if there is no folder of them, if there are two, or if files are missing: it names them.
    """
    names = [f"VOC{source.year}/Segmentation/{one}_{source.split}_cls" for one in (COMPETITION, OTHER_COMPETITION)]
    found = [path for name in names for path in (Path(folder, name), Path(folder, "results", name)) if path.is_dir()]
    if not found:
        raise ValueError(
            f"--voc_results={folder}: there is no {names[0]} in it; give the folder that holds VOC{source.year}/, and "
            "with --split the list that the folder of masks is named after"
        )
    if len(found) > 1:
        raise ValueError(f"--voc_results={folder}: {found[0]} and {found[1]} are both there; leave one of the two")
    there = {path.name for path in found[0].iterdir()}
    missing = [f"{name}.png" for name in ids if f"{name}.png" not in there]
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise ValueError(
            f"{found[0]}: {len(missing):,} of {len(ids):,} masks are missing: {', '.join(missing[:SHOWN])}{more}; "
            f"there must be one for each image of {source.split}.txt"
        )
    if others := len([name for name in there if name.endswith(".png")]) - len(ids):
        print(f"{others:,} masks in {found[0]} are of no image in {source.split}.txt, and do not count")
    return {name: found[0] / f"{name}.png" for name in ids}


def judge(results, source, folder, max_skipped=0.01):
    """Prints and writes how good masks of any program are: mIoU by the rules of VOC, and a report.

    Args:
      results: the folder that holds them, see `result_paths`.
      source: the `Source` of the ground truth.
      folder: to write metrics.json, per_class.tsv, report.html and worst.html into, a `Path`.
      max_skipped: share of the ground truth's masks that may be bad, see `image_files.most_rejected`.

    Raises ValueError for files that are not as they must be, before anything is written.
    """
    truth = read_truth(source)
    paths = result_paths(results, source, truth.ids)
    evaluator = SegmentationEvaluator(len(CLASSES), [("", name) for name in CLASSES])
    bad, beyond = add_all(evaluator, truth, paths)
    if len(bad) > image_files.most_rejected(len(truth.ids), max_skipped) or len(bad) == len(truth.ids):
        raise ValueError(
            f"{len(bad):,} of {len(truth.ids):,} masks of the ground truth cannot be used, more than --max_skipped="
            f"{max_skipped:g} ({'; '.join(bad[:3])}); mend them, or allow more"
        )
    outputs.print_left_out(bad, "left out, bad ground truth")
    if beyond:
        print(f"{beyond:,} masks have values above 20 in void pixels; they do not count, but the devkit refuses them")
    evaluator.read_images = lambda names: _read_images(truth, paths, names)
    evaluator.result()
    settings = {"voc_results": str(results), "dataset": source.dataset, "split": source.split} | evaluator.settings()
    folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings} | evaluator.metrics | evaluator.by_class() | {"skipped": bad, "problems": []}
    outputs.write_metrics(folder / "metrics.json", content)
    print(evaluator.table(len(bad)))
    evaluator.write_report(folder, f"{results} on {source.dataset}, {source.split}")
    outputs.print_written(folder)


def add_all(evaluator, truth, paths):
    """Adds all images of a `Truth` and the masks at `paths`, by id, to an evaluator.

    Returns "file: reason" of each mask of the ground truth that is bad, whose image is left out, and how many results
    have values that are no class in void pixels. Raises ImageError for a result that is not as it must be.
    """
    bad, beyond = [], 0
    for name in tqdm(truth.ids, unit=" images", smoothing=0.1):
        try:
            mask = truth.mask(name)
        except ImageError as error:
            bad.append(str(error))
            continue
        prediction = palette.read(paths[name], mask.shape)
        try:
            check_values(prediction, mask != palette.VOID)
        except ImageError as error:
            raise ImageError(f"{paths[name]}: {error}; write the background, 0, where there is none") from error
        beyond += bool((prediction >= len(CLASSES)).any())
        evaluator.add_images([name], [confusion.count(mask, prediction, len(CLASSES))])
    return bad, beyond


def _read_images(truth, paths, names):
    """What `SegmentationEvaluator.read_images` must: images, true masks and those found; damaged ones are left out."""
    found = {}
    for name in names:
        try:
            mask, prediction = truth.mask(name), palette.read(paths[name])
            found[name] = truth.image(name), mask, prediction
        except (ImageError, voc_files.Unreadable):
            continue
    return found


class MaskFiles(NamedTuple):
    """Where predicted masks are written as they come, and read again; see `SegmentationEvaluator`.

    Those of VOC's images are what the devkit reads, `folder`/VOC<year>/Segmentation/comp6_<split>_cls/<id>.png; those
    of others stand in `folder`/Segmentation/comp6_<split>_cls, under their names with .png in the place of the ending.

    Attributes:
      folder: to write into.
      split: name of the list that the images are of.
      paths: {name of an image: path of its mask}, empty at first.
      year: of images whose folder says none: 2012 where the classes are CLASSES; None if they are not VOC's.
    """

    folder: Path
    split: str
    paths: dict
    year: int | None = None

    def write(self, name, mask):
        """Writes the mask of an image by its name in records: integer [height, width], as of `palette.write`."""
        if name not in self.paths:
            self.paths[name] = self._path(name)
        palette.write(self.paths[name], mask)

    def read(self, name):
        """Returns the mask of an image that was written, uint8 [height, width]."""
        return palette.read(self.paths[name])

    def _path(self, name):
        """A path that is no other image's, and in the folder."""
        cls, taken = f"Segmentation/{COMPETITION}_{self.split}_cls", set(self.paths.values())
        year, image_id = voc.year(name) or self.year, voc.image_id(name)
        path = Path(self.folder, f"VOC{year}", cls, f"{image_id}.png")
        if year and voc.ID.fullmatch(image_id) and path not in taken:
            return path
        parts = [re.sub(r"[\0\s\\]", "_", part) for part in os.path.splitext(name)[0].split("/")]
        inside = "/".join(part for part in parts if part.strip("._")) or "_"
        path = Path(self.folder, cls, f"{inside}.png")
        return path if path not in taken else Path(self.folder, cls, f"{inside}_{len(taken)}.png")
