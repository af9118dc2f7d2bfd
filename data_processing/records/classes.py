"""Which classes the records in a folder have: how many, and their names."""

from pathlib import Path
from typing import NamedTuple

from data_processing.lists import dictionary
from data_processing.records import build_dataset


class Classes(NamedTuple):
    """Attributes:
    count: number of classes.
    names: by index, or None where nothing names them.
    guessed_from: what says how many there are, where the records do not: a file or a flag; else "".
    """

    count: int
    names: list[str] | None
    guessed_from: str = ""


def find(data_dir, dataset="", dictionary_path="", class_num=None, default=None) -> Classes:
    """Returns the `Classes` of the records in `data_dir`.

    Args:
      data_dir: folder of shards, or of train/ and val/.
      dataset: see `build_dataset.classes_of_records`.
      dictionary_path: of their classes, or "": the one that `build_dataset.build` left beside the records, if any.
      class_num: how many a user says there are, or None.
      default: how many there are if nothing says it.

    Raises ValueError if what says it contradicts itself.
    """
    count = build_dataset.classes_of_records(data_dir, dataset)
    if count and not dictionary_path and build_dataset.described(data_dir):
        dictionary_path = str(Path(data_dir, dictionary.BESIDE))
    if count and class_num not in (None, count):
        raise ValueError(
            f"--class_num={class_num}, but the records in {data_dir} are of {count} classes; leave --class_num out"
        )
    names = dictionary.read_names(dictionary_path) if dictionary_path else None
    guessed_from = ""
    if not count:
        count = len(names) if names and class_num is None else class_num or default
        guessed_from = dictionary_path if names else "--class_num"
    if names and len(names) != count:
        raise ValueError(
            f"{dictionary_path} has {len(names)} classes, and the records {count}; give the records' dictionary"
        )
    return Classes(count, names, guessed_from)
