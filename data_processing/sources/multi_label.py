"""From a user's own labels, a `Table` of classes by name, to a `Source`: indices, a dictionary, a split."""

from collections import Counter
import os
from pathlib import Path
from typing import NamedTuple
import unicodedata

from data_processing.images import archives, image_files
from data_processing.lists import closure, dictionary
from data_processing.lists.image_list import Row
from data_processing.sources import csv_labels
from data_processing.sources.labeled_images import Source, SourceError
from data_processing.sources.splits import by_path
from data_processing.sources.table import report_lines


class Images(NamedTuple):
    """Attributes:
    images: folder that the paths are relative to; "": the one of the file of labels.
    val_fraction: share of the images that are for validation, where the file does not say which.
    random_seed: by which they are chosen.
    """

    images: str = ""
    val_fraction: float = 0.2
    random_seed: int = 1234


def read_csv(path, csv_config, config) -> Source:
    """Returns the images of a CSV with its own classes, and prints what was found in it.

    Args:
      path: of the CSV.
      csv_config: `csv_labels.CsvConfig`.
      config: `Images`.
    """
    table = csv_labels.read(path, csv_config)
    source = to_source(table, entries_of(table, csv_config.class_order), path, config)
    report(source, table.notes)
    return source


def entries_of(table, class_order) -> list[dictionary.Entry]:
    """Returns the classes of a table, without a hierarchy: the id of a class is its name.

    Args:
      table: a `Table`.
      class_order: "appearance", or "frequency": those with most images first.
    """
    names = table.names
    if class_order == "frequency":
        counts = image_counts(table)
        names = sorted(names, key=lambda name: -counts[name])
    return [dictionary.Entry(k, name, -1, name) for k, name in enumerate(names)]


def image_counts(table) -> Counter:
    """Returns the images of each class, by its name."""
    return Counter(name for row in table.rows for name, confidence in row.labels.items() if confidence > 0)


def to_source(table, entries, path, config) -> Source:
    """Gives the classes of a table their indices, adds the ancestors of `entries` and splits the images.

    Args:
      table: a `Table`; what is found is added to its notes.
      entries: a dictionary; a class is known by its names there, or else by its id.
      path: of the file that the table was read from.
      config: `Images`.
    """
    images = Path(config.images or Path(path).parent)
    if not images.is_dir():
        raise SourceError(f"--images={images} is no folder; give the one that the paths in {path} are relative to")
    # The first wins: an ancestor that was added may be called as a class of the table.
    numbers = {entry.wnid: entry.index for entry in reversed(entries)}
    numbers |= {entry.names: entry.index for entry in reversed(entries)}
    implied = closure.implied(entries)
    rows, unlabeled, unknown = [], [], []
    for image, labels, where in table.rows:
        pairs = []
        for name, confidence in labels.items():
            if name in numbers:
                pairs.append((numbers[name], confidence))
            else:
                unknown.append(f"{where}: {name!r}")
        closed = closure.close(pairs, implied)
        rows.append(Row(image, tuple(closed), tuple(closed.values())))
        if not closed:
            unlabeled.append(where)
    found = {
        "labels left out, which are not in the dictionary": unknown,
        "images without labels, which stay in the lists; --keep_unlabeled makes records of them": unlabeled,
    }
    table.notes.update({what: places for what, places in found.items() if places})
    absent = _absent(table, images)
    _note_look_alikes(table)
    names = [entry.names for entry in entries]
    return _split(Source(images, names, rows, entries=entries, absent=absent, kind="sparse"), table, config)


def report(source, notes):
    """Prints what was found, and how many images there are."""
    for line in report_lines(notes):
        print(line)
    for part, rows in (("training", source.train), ("validation", source.val)):
        seen = {label for row in rows for label, value in zip(*row[1:], strict=True) if value > 0}
        if rows and (lost := [name for k, name in enumerate(source.names) if k not in seen]):
            print(next(report_lines({f"classes without an image for {part}": [repr(name) for name in lost]})))


def _split(source, table, config):
    """Returns the source with its images for training, validation and, where the user's split says so, test."""
    parts = {"train": [], "val": [], "test": []}
    unsaid = [row for row in source.train if row.path not in table.splits]
    for row in source.train:
        if row.path in table.splits:
            parts[table.splits[row.path]].append(row)
    if not parts["val"] and parts["test"]:
        print(f"no images for validation: the {len(parts['test']):,} of test are used for it")
        parts["val"], parts["test"] = parts["test"], []
    if not parts["val"]:
        parts["train"], parts["val"] = by_path(parts["train"] + unsaid, config.val_fraction, config.random_seed)
    elif not parts["train"]:
        raise SourceError("no images for training: the column of splits names none")
    return source._replace(**parts)


def _absent(table, images) -> frozenset[str]:
    """Returns the paths that lead to no file in the folder `images`, nor into an archive there, and notes them."""
    packed, absent = {}, []
    for path, _, where in table.rows:
        if path.startswith(("http://", "https://")):
            what = "URLs, to be fetched by data_processing/download_images.py"
        elif (os.path.isabs(path) or ".." in path.split("/")) and not image_files.is_inside(Path(images, path), images):
            what = f"images outside of {images}, of which no record will be made"
        elif not os.path.isfile(os.path.join(images, path)) and not _is_packed(images, path, packed):
            what = f"images that are not in {images}, of which no record will be made"
        else:
            continue
        absent.append(path)
        table.notes.setdefault(what, []).append(f"{where}: {path!r}")
    none_here = f"images that are not in {images}, of which no record will be made"
    if len(table.notes.get(none_here, ())) == len(table.rows) > 0:
        places = table.notes.pop(none_here)
        table.notes[f"{none_here}; these are all: is --images the folder that the paths are relative to?"] = places
    return frozenset(absent)


def _is_packed(images, path, packed):
    """Whether an image is in an archive in the place of one of its folders; `packed` keeps their names."""
    for parent in Path(path).parents[:-1]:
        archive = Path(images, f"{parent}.tar")
        if archive not in packed:
            packed[archive] = set(archives.names(archive)) if archive.is_file() else ()
        if packed[archive]:
            return Path(path).relative_to(parent).as_posix() in packed[archive]
    return False


def _note_look_alikes(table):
    groups = {}
    for name in table.names:
        key = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
        groups.setdefault(key, []).append(name)
    alike = [" and ".join(map(repr, names)) for names in groups.values() if len(names) > 1]
    if alike:
        table.notes["names that differ only in case, white space or Unicode's form, and stay different"] = alike
