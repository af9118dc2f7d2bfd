"""Images and labels of any dataset of TensorFlow Datasets that has them: "imagenet2012", "open_images_v4", ….

Labels are known by the dataset's own class names: WordNet ids in imagenet2012, machine ids in open_images_v4.
"""

import os
from pathlib import Path
import re

import tensorflow as tf
import tensorflow_datasets as tfds

from data_processing.sources import tfds_caltech256  # noqa: F401 (registers ours)
from data_processing.sources.labeled_images import Labeled, SourceError


def images(name, split, output, data_dir=None, manual_dir=None):
    """Yields the images of a split as `Labeled`, after writing each to `output`/NAME/SPLIT/00000000.jpg (or .png).

    Args:
      name: of the dataset, with its config and version if wanted: "imagenet2012:5.1.0".
      split: as `tfds.load` takes it, "train" or "validation[:10%]".
      output: folder; paths are relative to it. What is there already is not written again.
      data_dir: TFDS's folder of prepared data, by default ~/tensorflow_datasets.
      manual_dir: folder of the files that a person must fetch.

    Raises SourceError for an unknown name or split, a missing manual file, and a dataset without images or labels.
    """
    builder = prepare(name, data_dir, manual_dir)
    names = class_names(name, builder)
    for path, example in examples(name, builder, split, output):
        yield Labeled(path, _labels(example, names))


def examples(name, builder, split, output, encoded=("image",)):
    """Yields the path and, of NumPy arrays, the example of each image of a split, after writing it; as `images`.

    The features `encoded` are bytes, as the dataset keeps them.
    """
    try:
        decoders = {feature: tfds.decode.SkipDecoding() for feature in encoded}
        data = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
    except (AssertionError, ValueError, KeyError, OSError, tf.errors.OpError) as error:
        raise _explained(name, error) from error
    folder = Path(re.sub(r"[^\w.-]", "_", name), re.sub(r"[^\w.-]", "_", split))
    os.makedirs(Path(output, folder), exist_ok=True)
    seen = set()
    for number, example in enumerate(data.as_numpy_iterator()):
        ending = "png" if example["image"].startswith(b"\x89PNG") else "jpg"
        stem = _stem(example)
        path = folder / f"{stem if stem and stem not in seen else f'{number:08d}'}.{ending}"
        seen.add(path.stem)
        if not Path(output, path).exists():
            temp_path = Path(output, f"{path}.part")
            temp_path.write_bytes(example["image"])
            os.replace(temp_path, Path(output, path))
        yield str(path), example


def _stem(example):
    """The name, without its ending, that an image with objects is known by; "" if it has none."""
    name = example.get("image/filename", b"") if "objects" in example else b""
    stem, _, ending = name.decode("utf-8", "replace").rpartition(".")
    return stem if ending and re.fullmatch(r"\w[\w.-]{0,99}", stem, re.ASCII) else ""


def describe(name, data_dir=None, manual_dir=None):
    """Returns the class names, by index, and the names of the splits of a dataset; args and errors as of `images`.

    Raises SourceError, too, if an image has more than one label.
    """
    builder = prepare(name, data_dir, manual_dir)
    names = class_names(name, builder)
    if "label" not in builder.info.features:
        raise SourceError(f"tfds:{name}: its images have several labels each; a class an image is needed here")
    return names, list(builder.info.splits)


def sizes(name, data_dir=None):
    """Returns the class names of a dataset and its images for training and for validation or None; fetches nothing."""
    builder = prepare(name, data_dir, None, fetch=False)
    counts = {part: split.num_examples for part, split in builder.info.splits.items()}
    if "train" not in counts:
        raise SourceError(f"tfds:{name}: it says how many images it has once it is prepared; leave --dry_run out")
    return class_names(name, builder), counts["train"], counts.get("validation", counts.get("test"))


def prepare(name, data_dir, manual_dir, fetch=True):
    """Returns the builder of a dataset, which is downloaded and prepared if it is not there yet, unless not `fetch`."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        if fetch:
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
        return builder
    except tfds.core.DatasetNotFoundError as error:
        raise SourceError(f"tfds:{name}: TensorFlow Datasets has no such dataset; see tfds.list_builders()") from error
    except (AssertionError, ValueError, KeyError, OSError, tf.errors.OpError) as error:
        raise _explained(name, error) from error


def _explained(name, error):
    return SourceError(f"tfds:{name}: {' '.join(str(error).split())[:500]}")


def class_names(name, builder):
    """Returns the class names by index; SourceError if the dataset has no images, or no labels that are known."""
    features = builder.info.features
    if "image" not in features:
        raise SourceError(f"tfds:{name}: it has no feature 'image', only {', '.join(sorted(features))}")
    for label in (("label",), ("labels", "class"), ("labels",), ("objects", "label")):
        feature = features
        try:
            for key in label:
                feature = feature[key]
            return (feature.feature if hasattr(feature, "feature") else feature).names
        except (KeyError, TypeError, AttributeError):
            continue
    known = ", ".join(sorted(features))
    raise SourceError(f"tfds:{name}: it has no labels that are known here; its features are {known}")


def _labels(example, names):
    """{class name: confidence} of an example; the highest where one comes several times; {} where it is unknown."""
    if "label" in example:
        # Test splits that are kept secret have the label -1.
        return {names[int(example["label"])]: 1.0} if example["label"] >= 0 else {}
    group = example.get("labels", example.get("objects"))
    if not isinstance(group, dict):
        return {names[label]: 1.0 for label in group.tolist()}
    indices = group["class" if "class" in group else "label"].tolist()
    labels = {}
    for label, confidence in zip(indices, group.get("confidence", [1.0] * len(indices)), strict=True):
        # Open Images in TFDS counts confidence in tenths.
        value = float(confidence) / (10 if group is example.get("objects") and "confidence" in group else 1)
        labels[names[label]] = max(round(value, 6), labels.get(names[label], -1.0))
    return {label: value for label, value in labels.items() if value > 0 or value == -1}
