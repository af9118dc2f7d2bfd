"""Makes the records of a dataset, whatever its source: shards for training and validation, and a dictionary.

The records are those of `build_tfrecords.py --label_format=single` or, of a CSV, `sparse`, or of boxes or masks. A
folder's dataset.json says what it is made of.
"""

import json
from pathlib import Path
import re
import shutil
from typing import NamedTuple

from data_processing.images import image_files
from data_processing.lists import box_list, dictionary, image_list, mask_list
from data_processing.records import manifest, shard_writer
from data_processing.sources import datasets
from data_processing.sources.datasets import DatasetConfig
from data_processing.sources.labeled_images import SourceError
from utils.files import read_json, write_json, write_text

# What the records in a folder are of.
DONE = "dataset.json"
# Images in a shard; at most so many shards.
SHARD_IMAGES, MAX_SHARDS = 1000, 1024


class Plan(NamedTuple):
    """What `build` would make, or has made.

    Attributes:
      class_num, names: of the classes.
      train, val: images for training and for validation.
      kind: of the records, one of `schema.KINDS`.
    """

    class_num: int
    names: list[str]
    train: int
    val: int
    kind: str


class Dataset(NamedTuple):
    """What `build` made: the number of classes, and of records for training and for validation."""

    class_num: int
    train: int
    val: int


def build(source, output, config: DatasetConfig) -> Dataset:
    """Makes the records of a dataset in `output`, unless they are there: train/, val/ and dictionary.txt.

    Args:
      source: KIND:PLACE, see `datasets.KINDS`.
      output: folder, new or of an earlier call. Its dataset.json says what is made in it and, at last, that all is.
      config: how it is split and read.

    Returns the `Dataset`. Raises ValueError (SourceError) for a source that is not as it must be, too many damaged
    images, a class that is left without any, and an `output` that holds something else.
    """
    output = Path(output)
    settings = datasets.settings(source, config)
    if made := _claim(output, settings):
        return made
    images = datasets.read(source, output / "images", config)
    counts, parts = {}, datasets.parts(images, config)
    for name, rows in parts.items():
        if not datasets.usable(rows, config):
            what = "image" if images.kind in ("boxes", "masks") else "image with a label"
            raise SourceError(f"{source}: no {what} is left for {name}; set --train_per_class or --val_fraction")
    for name, rows in parts.items():
        built = _build_part(name, rows, images, output, config)
        if not built["records"]:
            raise SourceError(f"{source}: no image for {name} can be used; see {output / name / 'rejected.tsv'}")
        counts[name] = built["records"]
        wanted = {label for row in rows for label in row.labels}
        if name == "train" and (lost := [images.names[k] for k in wanted if str(k) not in built["classes"]]):
            _report_lost(sorted(lost), output, source, is_error=images.kind == "single")
    if images.entries is None:
        write_dictionary(output / dictionary.BESIDE, images.names)
    else:
        dictionary.write(output / dictionary.BESIDE, images.entries)
    says = {"class_num": len(images.names), "kind": images.kind, "lists": images.lists}
    write_json(output / DONE, settings | says | counts)
    shutil.rmtree(output / "images", ignore_errors=True)
    return Dataset(len(images.names), **counts)


def plan(source, output, config) -> Plan:
    """Returns what `build` with the same arguments would make, or has made, and writes nothing.

    Damaged images are among those that are counted before they are built. Raises ValueError as `build` does.
    """
    output = Path(output)
    if made := _find(output, datasets.settings(source, config)):
        classes = dictionary.load(output / dictionary.BESIDE)
        kind = described(output).get("kind", "single" if classes.ancestors is None else "sparse")
        return Plan(made.class_num, classes.names, made.train, made.val, kind)
    if source.startswith("tfds:"):
        return _plan_tfds(source, config)
    images = datasets.read(source, None, config)
    parts = {name: len(datasets.usable(rows, config)) for name, rows in datasets.parts(images, config).items()}
    return Plan(len(images.names), images.names, **parts, kind=images.kind)


def _plan_tfds(source, config):
    """The `Plan` of a dataset of TensorFlow Datasets, whose images are not read for it."""
    from data_processing.sources import tfds_boxes, tfds_masks, tfds_source

    name = source.partition(":")[2]
    if tfds_masks.mask_feature(name, fetch=False):
        names, train, val = tfds_masks.sizes(name)
        held_back = 0 if val else round(config.val_fraction * train)
        return Plan(len(names), names, train - held_back, val or held_back, "masks")
    if tfds_boxes.has_boxes(name, fetch=False):
        names, train, val = tfds_boxes.sizes(name)
        held_back = 0 if val else round(config.val_fraction * train)
        return Plan(len(names), names, train - held_back, val or held_back, "boxes")
    names, train, val = tfds_source.sizes(name)
    kept = min(train, config.train_per_class * len(names)) if config.train_per_class else train
    if val is None:
        kept = kept if config.train_per_class else round((1 - config.val_fraction) * train)
        val = train - kept
    return Plan(len(names), names, kept, val, "single")


def _build_part(name, rows, source, output, config):
    """Writes the list of "train" or "val", and its shards; returns their manifest."""
    list_path = output / f"{name}.txt"
    {"boxes": box_list, "masks": mask_list}.get(source.kind, image_list).write(list_path, rows)
    shards = shard_writer.ShardConfig(
        split=name,
        label_format=source.kind,
        class_num=len(source.names),
        num_shards=max(1, min(-(-len(datasets.usable(rows, config)) // SHARD_IMAGES), MAX_SHARDS)),
        random_seed=config.random_seed,
        max_rejected=config.max_rejected,
        max_pixels=image_files.MAX_PIXELS,
        keep_unlabeled=config.keep_unlabeled,
        void_index=config.void,
        resize_short=config.resize_short,
        jpeg_quality=config.jpeg_quality,
    )
    shard_writer.build(list_path, source.images, output / name, shards)
    return json.loads((output / name / "manifest.json").read_text())


def _report_lost(names, output, source, is_error):
    """Says of which classes no image could be used to train: without one, a class of single labels is none."""
    first = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    listed = output / "train" / "rejected.tsv"
    if is_error:
        raise SourceError(
            f"{source}: no image of {first} can be used to train; see {listed}, mend them, and delete {output}"
        )
    print(f"{len(names):,} classes of which no image can be used to train, see {listed}: {first}")


def _find(output, settings) -> Dataset | None:
    """Returns the `Dataset` that is in the folder `output`, made with these `settings`; None if it is not finished.

    Raises ValueError if the folder holds something else.
    """
    before = described(output)
    if before is None:
        if output.exists() and any(output.iterdir()):
            raise ValueError(f"{output} holds other things than records of a dataset; give a new folder")
        return None
    is_done = "class_num" in before
    # A beginning without shards, after a typing error say, binds nobody.
    is_same = manifest.are_same_settings(
        output, manifest.BEFORE | before, settings, has_records=is_done or any(output.glob("*/*.tfrecords"))
    )
    return Dataset(*(before[name] for name in Dataset._fields)) if is_done and is_same else None


def _claim(output, settings):
    """Makes the folder `output` ours, which nothing but a call with these `settings` writes into.

    Returns the `Dataset` if it is there already, else None; ValueError if the folder holds something else.
    """
    if made := _find(output, settings):
        return made
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / DONE, settings)
    return None


def described(folder) -> dict | None:
    """Returns what dataset.json of a folder says: settings and, once all is there, a `Dataset`'s; None without it."""
    path = Path(folder, DONE)
    return read_json(path) if path.exists() else None


def list_name(data_dir, split) -> str | None:
    """Returns what the source calls the images of "train" or "val" of the records in a folder, as VOC's "test"."""
    return (described(data_dir) or {}).get("lists", {}).get(split)


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


def write_dictionary(path, names):
    """Writes a single-label dictionary: index and name of each class; of what cannot stand in one, a blank."""
    odd = [ascii(name) for name in names if re.search("[\ud800-\udfff]", name)]
    if odd:
        raise SourceError(f"{odd[0]}: the name of a class is not UTF-8; rename its folder")
    kept = (re.sub("[\t\r\n]", " ", name) for name in names)
    write_text(path, "".join(f"{k}\t{name}\n" for k, name in enumerate(kept)))
