"""Makes the records of a single-label dataset, whatever its source: shards for training and validation, and its names.

The records are those of `build_tfrecords.py --label_format=single`. A folder's dataset.json says what it is made of.
"""

import json
from pathlib import Path
import shutil
from typing import NamedTuple

from data_processing.images import image_files
from data_processing.lists import dictionary, image_list
from data_processing.records import manifest, shard_writer
from data_processing.sources import single_label
from data_processing.sources.labeled_images import SourceError
from data_processing.sources.splits import split
from utils.files import write_json, write_text

# What the records in a folder are of.
DONE = "dataset.json"
# Images in a shard; at most so many shards.
SHARD_IMAGES, MAX_SHARDS = 1000, 1024


class DatasetConfig(NamedTuple):
    """How a dataset is split and read.

    Attributes:
      train_per_class, val_fraction, random_seed: see `splits.split`. What a dataset has for validation stays whole.
      max_rejected: share of the images that may be damaged; rejected.tsv in train/ and val/ lists them.
      manual_dir: where TensorFlow Datasets finds what a person must fetch.
    """

    train_per_class: int = 0
    val_fraction: float = 0.2
    random_seed: int = 1234
    max_rejected: float = 0.01
    manual_dir: str | None = None


class Dataset(NamedTuple):
    """What `build` made: the number of classes, and of records for training and for validation."""

    class_num: int
    train: int
    val: int


def build(source, output, config) -> Dataset:
    """Makes the records of a dataset in `output`, unless they are there: train/, val/ and dictionary.txt.

    Args:
      source: KIND:PLACE, see `single_label.KINDS`.
      output: folder, new or of an earlier call. Its dataset.json says what is made in it and, at last, that all is.
      config: `DatasetConfig`.

    Returns the `Dataset`. Raises ValueError (SourceError) for a source that is not as it must be, too many damaged
    images, a class that is left without any, and an `output` that holds something else.
    """
    output = Path(output)
    settings = {
        "source": source,
        "train_per_class": config.train_per_class,
        "val_share": config.val_fraction,
        "seed": config.random_seed,
    }
    if made := _claim(output, settings):
        return made
    images = _without_odd_names(single_label.read(source, output / "images", config.manual_dir))
    counts = {}
    for name, rows in _parts(images, config).items():
        if not rows:
            raise SourceError(f"{source}: nothing is left for {name}; set --train_per_class or --val_fraction")
        built = _build_part(name, rows, images, output, config)
        counts[name] = built["records"]
        lost = [images.names[k] for k in {k for _, k in rows} if str(k) not in built["classes"]]
        if lost and name == "train":
            raise SourceError(
                f"{source}: no image of {', '.join(sorted(lost)[:5])} can be used to train; see "
                f"{output / name / 'rejected.tsv'}, mend them, and delete {output}"
            )
    write_dictionary(output / dictionary.BESIDE, images.names)
    write_json(output / DONE, settings | {"class_num": len(images.names)} | counts)
    shutil.rmtree(output / "images", ignore_errors=True)
    return Dataset(len(images.names), **counts)


def _parts(source, config):
    """Returns {"train": rows, "val": rows}, pairs of a path and a class, of a `Source`."""
    parts = {"train": source.train, "val": source.val}
    if source.val is None or config.train_per_class:
        labels = [k for _, k in source.train]
        chosen, others = split(labels, config.train_per_class, config.val_fraction, config.random_seed)
        parts["train"] = [source.train[k] for k in chosen]
        if source.val is None:
            parts["val"] = [source.train[k] for k in others]
    return parts


def _build_part(name, rows, source, output, config):
    """Writes the list of "train" or "val", and its shards; returns their manifest."""
    list_path = output / f"{name}.txt"
    image_list.write(list_path, (image_list.Row(path, (k,), (1.0,)) for path, k in rows))
    shards = shard_writer.ShardConfig(
        split=name,
        label_format="single",
        class_num=len(source.names),
        num_shards=min(-(-len(rows) // SHARD_IMAGES), MAX_SHARDS),
        random_seed=config.random_seed,
        max_rejected=config.max_rejected,
        max_pixels=image_files.MAX_PIXELS,
    )
    shard_writer.build(list_path, source.images, output / name, shards)
    return json.loads((output / name / "manifest.json").read_text())


def _claim(output, settings):
    """Makes the folder `output` ours, which nothing but a call with these `settings` writes into.

    Returns the `Dataset` if it is there already, else None; ValueError if the folder holds something else.
    """
    before = described(output)
    if before is None and output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} holds other things than records of a dataset; give a new folder")
    if before is not None:
        is_done = "class_num" in before
        # A beginning without shards, after a typing error say, binds nobody.
        is_same = manifest.are_same_settings(
            output, before, settings, has_records=is_done or any(output.glob("*/*.tfrecords"))
        )
        if is_done and is_same:
            return Dataset(*(before[name] for name in Dataset._fields))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / DONE, settings)
    return None


def described(folder) -> dict | None:
    """Returns what dataset.json of a folder says: settings and, once all is there, a `Dataset`'s; None without it."""
    path = Path(folder, DONE)
    return json.loads(path.read_text()) if path.exists() else None


def classes_of_records(data_dir, dataset="") -> int | None:
    """Returns the number of classes that the records in a folder were made with, or None if nothing says it.

    Args:
      data_dir: folder of shards, or of train/ and val/.
      dataset: KIND:PLACE of what the records must be of, or "". Raises ValueError if there are none of a dataset yet.
    """
    folder = Path(data_dir)
    if (description := described(folder)) is not None:
        if "class_num" not in description:
            raise ValueError(
                f"the records in {folder} are not finished; make them with --dataset={description['source']} and the "
                "other flags as before, or with data_processing/build_classification.py (for elastic training)"
            )
        return description["class_num"]
    if dataset:
        raise ValueError(f"{folder}: no records yet; for elastic training make them by build_classification.py first")
    return manifest.class_num(folder, folder / "train", folder / "val")


def _without_odd_names(source):
    """Leaves out images whose names an image list cannot hold, and says so."""
    odd = [path for path, _ in (*source.train, *(source.val or ())) if not image_list.can_hold(path)]
    if not odd:
        return source
    print(f"{len(odd):,} images left out, whose names hold a tab or line end, or are not UTF-8: {ascii(odd[0])}, …")
    train, val = ([row for row in rows if image_list.can_hold(row[0])] for rows in (source.train, source.val or ()))
    return source._replace(train=train, val=None if source.val is None else val)


def write_dictionary(path, names):
    """Writes a single-label dictionary: index and name of each class."""
    write_text(path, "".join(f"{k}\t{' '.join(name.split())}\n" for k, name in enumerate(names)))
