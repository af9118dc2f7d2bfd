"""What `--dataset` names, KIND:PLACE, read: images and labels, what for, and what the records of them depend on."""

from pathlib import Path
from typing import NamedTuple

from data_processing.images import image_files, mask_files
from data_processing.lists import box_list, image_list, mask_list
from data_processing.sources import caltech256, coco_boxes, mask_folders, multi_label, single_label, voc, voc_masks
from data_processing.sources.csv_labels import CsvConfig
from data_processing.sources.labeled_images import Source, SourceError
from data_processing.sources.splits import by_path, split
from utils.files import sha256

KINDS = {
    "folder": "folder:FOLDER, with a folder of images for each class, or these in train/ and val/",
    "csv": "csv:FILE of paths and labels, with --images=FOLDER",
    "caltech256": f"caltech256:{caltech256.ARCHIVE}, or the folder that it or its class folders are in",
    "imagenet": "imagenet:FOLDER, with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the devkit, or folders",
    "tfds": "tfds:NAME, a dataset of TensorFlow Datasets, of one class an image or with boxes; or tfds:NAME,MASKS",
    **{kind: f"{kind}:VOCdevkit, or the published tars, with boxes" for kind in voc.YEARS},
    "coco": "coco:IMAGES,ANNOTATIONS.json, a folder and boxes in COCO's form",
    voc_masks.KIND: f"{voc_masks.KIND}:VOCdevkit, or VOCtrainval_11-May-2012.tar, with masks",
    "masks": "masks:IMAGES,MASKS, a folder and one of PNGs of the same names, whose pixels are classes",
}


class DatasetConfig(NamedTuple):
    """How a dataset is split and read.

    Attributes:
      train_per_class, val_fraction, random_seed: see `splits.split`. What a dataset has for validation stays whole.
      max_rejected: share of the images that may be damaged; rejected.tsv in train/ and val/ lists them.
      manual_dir: where TensorFlow Datasets finds what a person must fetch.
      images: of a CSV, the folder that its paths are relative to; "": the CSV's own.
      keep_unlabeled: whether images without labels become records of no class; of a CSV.
      csv: how a CSV is read.
      sbd: of voc2012seg, the folder of SBD's masks, for more images to train on; see `voc_masks.read`.
      void: of masks and of TensorFlow Datasets, the index of pixels without a class.
      resize_short, jpeg_quality: what images become in records, see `shard_writer.ShardConfig`.
    """

    train_per_class: int = 0
    val_fraction: float = 0.2
    random_seed: int = 1234
    max_rejected: float = 0.01
    manual_dir: str | None = None
    images: str = ""
    keep_unlabeled: bool = False
    csv: CsvConfig = CsvConfig()
    sbd: str = ""
    void: int = mask_files.VOID
    resize_short: int = 0
    jpeg_quality: int = image_files.JPEG_QUALITY


def settings(source, config):
    """What the records of a source depend on, for dataset.json."""
    settings = {
        "source": source,
        "train_per_class": config.train_per_class,
        "val_share": config.val_fraction,
        "seed": config.random_seed,
        "resize_short": config.resize_short,
        "jpeg_quality": config.jpeg_quality,
    }
    kind, _, place = source.partition(":")
    if kind not in KINDS or not place:
        raise SourceError(f"--dataset={source}: write it as one of {'; '.join(KINDS.values())}")
    if config.train_per_class and (kind in ("csv", "coco", "masks", voc_masks.KIND) or kind in voc.YEARS):
        what = "a CSV" if kind == "csv" else kind
        raise SourceError(f"--train_per_class={config.train_per_class}: images of {what} have any number of classes")
    if config.sbd and kind != voc_masks.KIND:
        raise SourceError(f"--sbd={config.sbd} belongs to --dataset={voc_masks.KIND}:…, not to {kind}:…")
    if config.void != mask_files.VOID and kind not in ("masks", "tfds"):
        raise SourceError(f"--void={config.void} belongs to --dataset=masks:… or tfds:…, not to {kind}:…")
    if kind == "masks":
        return settings | mask_folders.settings(place, config.void)
    if kind == voc_masks.KIND:
        return settings | {"sbd": config.sbd}
    if config.void != mask_files.VOID:
        settings["void"] = config.void
    if kind == "coco":
        return settings | {"annotations_sha256": sha256(coco_boxes.places(place)[1])}
    if kind != "csv":
        return settings
    if not Path(place).is_file():
        raise SourceError(f"--dataset={source}: there is no file {place}")
    # Other labels under the same name are other records.
    settings |= {"csv_sha256": sha256(place), "images": str(config.images), "keep_unlabeled": config.keep_unlabeled}
    return settings | config.csv._asdict()


def read(source, scratch, config) -> Source:
    """Returns the `Source`; `scratch` is a folder for images that come in no files."""
    kind, _, place = source.partition(":")
    if kind in voc.YEARS:
        return voc.read(source)
    if kind == "coco":
        return coco_boxes.read(place)
    if kind == voc_masks.KIND:
        return voc_masks.read(place, config.sbd)
    if kind == "masks":
        return mask_folders.read(place, config.void)
    if kind == "tfds":
        # Only who names it needs it: its import takes seconds.
        from data_processing.sources import tfds_boxes, tfds_masks

        if tfds_masks.mask_feature(place, config.manual_dir):
            return tfds_masks.read(place, scratch, config.void, config.manual_dir)
        if tfds_boxes.has_boxes(place, manual_dir=config.manual_dir):
            return tfds_boxes.read(place, scratch, config.manual_dir)
    if kind == "csv":
        images = multi_label.Images(config.images, config.val_fraction, config.random_seed)
        return _without_absent(multi_label.read_csv(place, config.csv, images), config.max_rejected)
    return _without_odd_names(single_label.read(source, scratch, config.manual_dir))


def parts(source, config):
    """Returns {"train": rows, "val": rows} of a `Source`."""
    if source.test:
        print(f"{len(source.test):,} images of test are left out")
    parts = {"train": source.train, "val": source.val}
    if source.kind in ("boxes", "masks"):
        if config.train_per_class:
            what = f"images with {source.kind} have any number of classes"
            raise SourceError(f"--train_per_class={config.train_per_class}: {what}")
        if source.val is None:
            parts["train"], parts["val"] = by_path(source.train, config.val_fraction, config.random_seed)
        return parts
    if source.entries is None and (source.val is None or config.train_per_class):
        labels = [row.labels[0] for row in source.train]
        chosen, others = split(labels, config.train_per_class, config.val_fraction, config.random_seed)
        parts["train"] = [source.train[k] for k in chosen]
        if source.val is None:
            parts["val"] = [source.train[k] for k in others]
    return parts


def usable(rows, config):
    """The rows that records are made of: without boxes, too, since an image of nothing has no detections."""
    others = box_list.Row, mask_list.Row
    return [row for row in rows if config.keep_unlabeled or row.labels or isinstance(row, others)]


def _without_absent(source, max_rejected):
    """Leaves out the images that are not in the folder; SourceError if they are several, and too many."""
    count = len(source.train) + len(source.val)
    parts = [[row for row in rows if row.path not in source.absent] for rows in (source.train, source.val)]
    absent = count - len(parts[0]) - len(parts[1])
    if absent > image_files.most_rejected(count, max_rejected):
        raise SourceError(
            f"{absent:,} of {count:,} images are not in {source.images}, more than "
            f"--max_rejected={max_rejected:g}; is --images the folder that the paths are relative to?"
        )
    return source._replace(train=parts[0], val=parts[1])


def _without_odd_names(source):
    """Leaves out images whose names an image list cannot hold, and says so."""
    odd = [row.path for row in (*source.train, *(source.val or ())) if not image_list.can_hold(row.path)]
    if not odd:
        return source
    print(f"{len(odd):,} images left out, whose names hold a tab or line end, or are not UTF-8: {ascii(odd[0])}, …")
    train, val = ([row for row in rows if image_list.can_hold(row.path)] for rows in (source.train, source.val or ()))
    return source._replace(train=train, val=None if source.val is None else val)
