"""Boxes of any dataset of TensorFlow Datasets that has objects with "bbox" and "label": "voc/2007", "coco/2017"."""

from pathlib import Path

from data_processing.images import image_files
from data_processing.lists import box_list
from data_processing.sources import tfds_source
from data_processing.sources.labeled_images import Source, SourceError

# Edges come as float32 shares of width and height. So many decimals of a pixel bring back what was annotated.
DECIMALS = 3
DIFFICULT, TRUNCATED = ("is_difficult", "is_crowd"), ("is_truncated",)


def has_boxes(name, data_dir=None, manual_dir=None, fetch=True) -> bool:
    """Whether the images of a dataset have boxes, and not one label each; arguments and errors as of `read`."""
    features = tfds_source.prepare(name, data_dir, manual_dir, fetch).info.features
    objects = features["objects"] if "objects" in features else None
    return "label" not in features and hasattr(objects, "keys") and {"bbox", "label"} <= set(objects.keys())


def read(name, scratch, manual_dir=None, data_dir=None) -> Source:
    """Returns the images of a dataset, written below the folder `scratch`, with their boxes.

    Args:
      name: of the dataset, with its config and version if wanted.
      scratch: folder.
      manual_dir: folder of the files that a person must fetch.
      data_dir: TFDS's folder of prepared data.

    Raises SourceError as `tfds_source.images`.
    """
    builder = tfds_source.prepare(name, data_dir, manual_dir)
    names = tfds_source.class_names(name, builder)
    parts = splits(name, builder)
    # TFDS divides VOC's edges by the size as they are: counted from 1.
    first = 1 if builder.name == "voc" else 0
    rows = [
        [_row(path, example, len(names), first) for path, example in tfds_source.examples(name, builder, part, scratch)]
        for part in parts
    ]
    return Source(Path(scratch), names, *rows, kind="boxes")


def splits(name, builder) -> list[str]:
    """Returns the splits to train and, if there is one, to validate on: of VOC 2007 "train+validation" and "test"."""
    there = builder.info.splits
    if "train" not in there:
        raise SourceError(f"tfds:{name}: it has no split train, only {', '.join(there)}")
    if builder.name == "voc" and builder.builder_config.name == "2007" and {"validation", "test"} <= there.keys():
        return ["train+validation", "test"]
    return ["train", *[part for part in ("validation", "test") if part in there][:1]]


def sizes(name, data_dir=None):
    """Returns the class names, and the images for training and for validation, 0 if none are; fetches nothing."""
    builder = tfds_source.prepare(name, data_dir, None, fetch=False)
    if not builder.info.splits:
        raise SourceError(f"tfds:{name}: it says how many images it has once it is prepared; leave --dry_run out")
    counts = [builder.info.splits[part].num_examples for part in splits(name, builder)]
    return tfds_source.class_names(name, builder), counts[0], sum(counts[1:])


def _row(path, example, class_num, first):
    """The `box_list.Row` of an example; `first` is what the edges at left and top are counted from."""
    try:
        width, height, _ = image_files.stored(example["image"])
    except image_files.ImageError as error:
        return box_list.Row(path, None, (), str(error))
    objects = example["objects"]
    edges, labels = objects["bbox"].tolist(), objects["label"].tolist()
    boxes = []
    for k, ((top, left, bottom, right), label) in enumerate(zip(edges, labels, strict=True)):
        if not 0 <= label < class_num:
            return box_list.Row(path, None, (), f"object {k + 1} has the class {label}, of {class_num}")
        pixels = [left * width - first, top * height - first, right * width, bottom * height]
        flags = (any(bool(objects[key][k]) for key in keys if key in objects) for keys in (DIFFICULT, TRUNCATED))
        boxes.append(box_list.Box(label, *(round(edge, DECIMALS) for edge in pixels), *flags))
    try:
        return box_list.Row(path, None, box_list.fit(boxes, width, height))
    except box_list.BoxError as error:
        return box_list.Row(path, None, (), str(error))
