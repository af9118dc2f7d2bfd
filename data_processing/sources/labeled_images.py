"""Where images and labels come from, each as a stream of `Labeled`: an image's path or URL, and its labels by id.

An id is what the source uses: a WordNet id of ImageNet ("n02084071"), a machine id of Open Images ("/m/0bt9lr"), a
class name of TensorFlow Datasets. `build_dictionary.py` says which class an id is.
"""

from array import array
from collections.abc import Iterator
import csv
import os
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np

from data_processing.images import archives, image_files
from data_processing.lists import dictionary, image_list

WNID = re.compile(r"n\d{8}")
# Names of the columns, in the order of Open Images V1 to V3. Later versions have the same columns, and more.
ANNOTATION_COLUMNS = ("ImageID", "LabelName", "Confidence")
# A file is decoded a block at a time.
NO_CSV = "here or soon after it is not CSV in UTF-8"

# Added to a confidence that people gave, so that it is above every machine's.
HUMAN = 2


class SourceError(ValueError):
    """A source is not as it must be; the message names file and line, and what to do."""


class Labeled(NamedTuple):
    """An image: its path or URL, {class id: confidence in (0, 1], or -1 for unknown}, and "FILE:LINE" or ""."""

    path: str
    labels: dict[str, float]
    where: str = ""


class Source(NamedTuple):
    """A dataset whose classes have indices.

    Attributes:
      images: folder that paths are relative to.
      names: of the classes, by index.
      train: an `image_list.Row` each, with one label or, where there are `entries`, any number.
      val: the same for validation, or None: they are to be split off.
      test: the same for later.
      entries: dictionary of the classes of a multi-label dataset, else None.
      absent: paths of those images that are not in the folder.
      kind: of the records that are made of it, one of `schema.KINDS`; rows of "boxes" are `box_list.Row`, of
        "masks" `mask_list.Row`.
      lists: what the source calls the images for training and for validation, by "train" and "val", if it has names.
    """

    images: Path
    names: list[str]
    train: list[image_list.Row]
    val: list[image_list.Row] | None = None
    test: list[image_list.Row] = []
    entries: list[dictionary.Entry] | None = None
    absent: frozenset[str] = frozenset()
    kind: str = "single"
    lists: dict[str, str] = {}


def single_label_rows(pairs) -> list[image_list.Row]:
    """Returns the rows of pairs of a path and the index of its one class."""
    shared = {k: ((k,), (1.0,)) for k in {k for _, k in pairs}}
    return [image_list.Row(path, *shared[k]) for path, k in pairs]


def check_links(root, paths):
    """Raises SourceError if any of these folders or archives is a link out of `root`: no image in it would be read."""
    outside = [str(path) for path in paths if not image_files.is_inside(path, root)]
    if outside:
        first = ", ".join(outside[:5]) + (", …" if len(outside) > 5 else "")
        raise SourceError(
            f"{first}: {len(outside):,} links that lead out of {root}, where no image is read; put what they lead to "
            "in their place"
        )


def imagenet(folder, root=None) -> Iterator[Labeled]:
    """Yields the images of ImageNet: archives `n02084071.tar` or folders `n02084071/`, each of one class.

    Paths are "n02084071/n02084071_8388.JPEG" in both cases, so that `build_tfrecords.py --images=folder` finds them,
    in an archive, too. None of them may link out of the folder `root`, which is `folder` if it is not given.
    """
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    wnids = dict.fromkeys(name for entry in entries if WNID.fullmatch(name := entry.name.removesuffix(".tar")))
    if not wnids:
        raise SourceError(f"{folder}: neither archives like n02084071.tar nor folders like n02084071/ are here")
    check_links(root or folder, [entry.path for entry in entries if entry.name.removesuffix(".tar") in wnids])
    for wnid in wnids:
        if os.path.isdir(os.path.join(folder, wnid)):
            names = [os.path.relpath(path, folder) for path in image_files.image_paths(os.path.join(folder, wnid))]
        else:
            names = [f"{wnid}/{name}" for name in archives.names(os.path.join(folder, f"{wnid}.tar"))]
        for name in names:
            yield Labeled(name, {wnid: 1.0})


def labeled_list(path, entries) -> Iterator[Labeled]:
    """Yields the images of an image list, published or ours, whose indices are those of the dictionary `entries`."""
    for where, row in image_list.read_with_lines(path, len(entries), require_labels=False):
        ids = (entries[label].wnid for label in row.labels)
        yield Labeled(row.path, dict(zip(ids, row.confidences, strict=True)), where)


def open_images(images, annotations, min_confidence=0.0) -> Iterator[Labeled]:
    """Yields the images of Open Images with their URLs, in the order of the list of images.

    Args:
      images: CSV of V1 to V3 (`images.csv`) or later, with columns ImageID and OriginalURL.
      annotations: CSVs with columns ImageID, LabelName and Confidence: `annotations-human.csv`,
        `annotations-machine.csv`, `…-human-imagelabels.csv`. What people said (column Source, or the name of the file)
        holds against machines: their 0 takes a label away. Otherwise the highest confidence holds.
      min_confidence: labels below it are left out.

    The annotations are held in memory, 40 bytes each at the most: 3.2 GB for 80 million.
    """
    image_ids, labels, confidences, names = _annotations(annotations)
    order = np.argsort(image_ids, kind="stable")
    image_ids, labels, confidences = image_ids[order], labels[order], confidences[order]
    for where, row in _csv_rows(images, ("ImageID", "OriginalURL")):
        # A plain integer would turn the array into floating point, where neighbours are one.
        image_id = np.uint64(_image_id(row["ImageID"], where))
        begin, end = np.searchsorted(image_ids, image_id, "left"), np.searchsorted(image_ids, image_id, "right")
        highest = {}
        for label, confidence in zip(labels[begin:end].tolist(), confidences[begin:end].tolist(), strict=True):
            name = names[label]
            highest[name] = max(confidence, highest.get(name, 0.0))
        highest = {name: round(value - HUMAN if value >= HUMAN else value, 6) for name, value in highest.items()}
        kept = {name: value for name, value in highest.items() if value > 0 and value >= min_confidence}
        yield Labeled(row["OriginalURL"], kept, where)


def _annotations(paths):
    """Returns image ids, uint64; label numbers, int32; confidences, float32, of people plus HUMAN; and label names."""
    image_ids, labels, confidences, numbers = array("Q"), array("i"), array("f"), {}
    for path in paths:
        for where, row in _csv_rows(path, ANNOTATION_COLUMNS):
            image_ids.append(_image_id(row["ImageID"], where))
            labels.append(numbers.setdefault(row["LabelName"], len(numbers)))
            try:
                confidence = float(row["Confidence"])
            except ValueError:
                confidence = -1.0
            if not 0 <= confidence <= 1:
                raise SourceError(f"{where}: Confidence '{row['Confidence'][:40]}' is no number from 0 to 1")
            by_machine = "machine" in (row.get("Source") or Path(path).name)
            confidences.append(confidence if by_machine else confidence + HUMAN)
    return np.array(image_ids), np.array(labels), np.array(confidences), list(numbers)


def _image_id(text, where):
    if not re.fullmatch("[0-9a-fA-F]{1,16}", text):
        raise SourceError(f"{where}: ImageID '{text[:40]}' is not 16 hexadecimal digits")
    return int(text, 16)


def _csv_rows(path, columns):
    """Yields "FILE:LINE" and a row as a dictionary; SourceError if a column is not there or a field missing."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise SourceError(f"{path}:1: no column {', '.join(missing)}; the first line must name the columns")
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if any(row[column] is None for column in columns):
                    raise SourceError(f"{where}: too few fields; columns are {', '.join(reader.fieldnames)}")
                yield where, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(f"{path}:{reader.line_num + 1}: {NO_CSV}: {error}") from error


def class_descriptions(path) -> dict[str, str]:
    """Returns {id: name} of Open Images' class-descriptions.csv, of any version: without a header line, or with one."""
    names = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if not row or reader.line_num == 1 and row[0] == "LabelName":
                    continue
                if len(row) < 2 or not row[0].startswith("/"):
                    raise SourceError(f"{where}: not an id and a name, like /m/0bt9lr,Dog")
                if row[0] in names:
                    raise SourceError(f"{where}: {row[0]} came before; keep one of the two lines")
                names[row[0]] = row[1]
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(f"{path}:{reader.line_num + 1}: {NO_CSV}: {error}") from error
    return names


def id_lines(path) -> dict[str, list[str]]:
    """Returns {id: other fields} of a file as `id_rows` reads it."""
    return {name: fields for _, name, fields in id_rows(path)}


def id_rows(path) -> Iterator[tuple[str, str, list[str]]]:
    """Yields "FILE:LINE", id and other fields of a file with an id a line, the others after tabs; "#" begins a comment.

    Raises SourceError for a line without an id, and for an id that comes twice.
    """
    names = set()
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            text = image_list.decode_line(line, where)
            if not text or text.startswith("#"):
                continue
            name, *fields = (field.strip() for field in text.split("\t"))
            if not name:
                raise SourceError(f"{where}: no id at the beginning of the line")
            if name in names:
                raise SourceError(f"{where}: {name} came before; keep one of the two lines")
            names.add(name)
            yield where, name, fields
