"""Masks of any dataset of TensorFlow Datasets that has them beside an image: "oxford_iiit_pet,segmentation_mask".

The feature of the masks follows on a comma; it can be left out where the images have no label and no objects. Indices
stay what they are: those of oxford_iiit_pet are 1 (animal), 2 (background) and 3 (outline), so it has four classes, and
0 never comes.
"""

from pathlib import Path

from data_processing.lists import mask_list
from data_processing.sources import mask_folders, tfds_boxes, tfds_source
from data_processing.sources.labeled_images import Source, SourceError
from utils.files import atomic_write

FEATURES = ("segmentation_mask", "segmentation_label", "annotation")
OTHERS = ("label", "labels", "objects")


def mask_feature(place, manual_dir=None, fetch=True) -> str | None:
    """Returns the name of the feature of NAME or NAME,FEATURE that holds masks, or None: it is not for masks.

    Raises SourceError as `tfds_source.prepare`, and if there is no such feature, or none of images.
    """
    name, _, wanted = place.partition(",")
    features = tfds_source.prepare(name, None, manual_dir, fetch).info.features
    if wanted:
        # SourceError messages list what there is.
        if wanted not in features or not hasattr(features[wanted], "decode_example") or "image" not in features:
            raise SourceError(f"tfds:{place}: it has no image and {wanted}; its features are {', '.join(features)}")
        return wanted
    if "image" not in features or any(other in features for other in OTHERS):
        return None
    return next((feature for feature in FEATURES if feature in features), None)


def read(place, scratch, void, manual_dir=None) -> Source:
    """Returns the images of NAME or NAME,FEATURE, written with their masks below the folder `scratch`.

    `void` is the index of pixels without a class. Raises SourceError as `mask_feature` and `mask_folders.class_names`.
    """
    feature = mask_feature(place, manual_dir)
    name = place.partition(",")[0]
    builder = tfds_source.prepare(name, None, manual_dir)
    masks = Path(scratch, "masks").resolve()
    parts = []
    for part in tfds_boxes.splits(name, builder):
        rows = []
        for path, example in tfds_source.examples(name, builder, part, scratch, ("image", feature)):
            mask = str(Path(path).with_suffix(".png"))
            Path(masks, mask).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(masks / mask) as temp_path:
                Path(temp_path).write_bytes(example[feature])
            rows.append(mask_list.Row(path, str(masks), mask))
        parts.append(rows)
    names = _names(builder, feature) or mask_folders.class_names(masks, sum(parts, []), void)
    return Source(Path(scratch), names, *parts, kind="masks")


def sizes(place):
    """Returns the class names, and the images for training and for validation, 0 if none are; fetches nothing."""
    feature, name = mask_feature(place, fetch=False), place.partition(",")[0]
    builder = tfds_source.prepare(name, None, None, fetch=False)
    names = _names(builder, feature)
    if not builder.info.splits or not names:
        what = "images" if names else "classes"
        raise SourceError(f"tfds:{place}: how many {what} it has is known once records are made; leave --dry_run out")
    counts = [builder.info.splits[part].num_examples for part in tfds_boxes.splits(name, builder)]
    return names, counts[0], sum(counts[1:])


def _names(builder, feature):
    """The names of the classes, where the feature of the masks has them (tfds.features.LabeledImage); else None."""
    return getattr(builder.info.features[feature], "names", None)
