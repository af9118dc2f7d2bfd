"""Which classes the records in a folder have: how many, and their names."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_processing.lists import dictionary
from data_processing.records import build_dataset, schema, tfrecord


class RecordClasses(NamedTuple):
    """Attributes:
    count: number of classes.
    dictionary: the `lists.dictionary.Classes`, or None where nothing names them.
    guessed_from: what says how many there are, where the records do not: a file or a flag; else "".
    """

    count: int
    dictionary: dictionary.Classes | None
    guessed_from: str = ""

    @property
    def names(self):
        return self.dictionary and self.dictionary.names

    @property
    def text(self):
        return self.dictionary and self.dictionary.text


def find(data_dir, dataset="", dictionary_path="", class_num=None, default=None) -> RecordClasses:
    """Returns the `RecordClasses` of the records in `data_dir`.

    Args:
      data_dir: folder of shards, or of train/ and val/.
      dataset: see `build_dataset.classes_of_records`.
      dictionary_path: of their classes, or "": the dictionary.txt that lies beside the records, if any.
      class_num: how many a user says there are, or None.
      default: how many there are if nothing says it.

    Raises ValueError if what says it contradicts itself.
    """
    count = build_dataset.classes_of_records(data_dir, dataset) or _length_of_dense_labels(data_dir)
    if count and class_num not in (None, count):
        raise ValueError(
            f"--class_num={class_num}, but the records in {data_dir} are of {count} classes; leave --class_num out"
        )
    beside = (Path(folder, dictionary.BESIDE) for folder in (data_dir, Path(data_dir, "train")))
    path = dictionary_path or next((str(path) for path in beside if path.is_file()), "")
    classes = dictionary.load(path) if path else None
    guessed_from = ""
    if not count:
        count = len(classes.names) if classes and class_num is None else class_num or default
        guessed_from = path if classes and class_num is None else "--class_num"
    if classes and len(classes.names) != count:
        raise ValueError(
            f"{path} has {len(classes.names)} classes, and the records {count}; give the records' dictionary"
        )
    return RecordClasses(count, classes, guessed_from)


def _length_of_dense_labels(data_dir):
    """Returns how many classes the dense labels of published records are of; None for other labels, or no records."""
    for split in ("train", "val"):
        try:
            first = tfrecord.shard_paths(data_dir, split)[0]
        except tfrecord.RecordError:
            continue
        record = next(tfrecord.records_at(first, np.zeros(1, np.int64)), None)
        return schema.dense_classes(record) if record else None
    return None
