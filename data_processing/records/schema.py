"""The record's schema, in this one place: a `tf.train.Example` in a TFRecord file.

    width, height    int64                 pixels
    image            bytes                 encoded JPEG
    name             bytes                 path in the image list
    labels, objects or a mask, one of
      label_index, label_confidence   int64 and float lists      multi-label ("sparse"): tens of bytes
      label                           bytes                      multi-label as published ("dense"): the float32 vector
                                                                 of all classes, 44,664 bytes for 11,166
      label                           int64                      single-label ("single")
      box                             float list                 objects ("boxes"), n >= 0 of them: 4 n edges in
                                                                 pixels, left, top, right, bottom of each
      box_class, difficult, truncated int64 lists                n classes, and twice n of 0 or 1
      mask                            bytes                      a class of each pixel ("masks"): a PNG of 8 bits of
                                                                 grey, of the image's size, of classes or VOID

A confidence is in (0, 1], or -1 for unknown; in a dense vector 0 is a class that is not there. A record that does not
keep to it is damaged.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.lists import box_list
from data_processing.records.tfrecord import RecordError

# Of labels of the whole image; and all.
LABEL_KINDS = ("sparse", "dense", "single")
KINDS = (*LABEL_KINDS, "boxes", "masks")
# Of a mask, the value of pixels that have no class: at the edge of an object, say.
VOID = 255
# How a PNG begins, as far as its width, and what follows on its height if it is of 8 bits of grey.
PNG_BEGINS, GREY_8_BITS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x08\0"


class Image(NamedTuple):
    """An image of a record: its encoded JPEG, bytes; its width and height in pixels; its path in the image list."""

    encoded: bytes
    width: int
    height: int
    name: str


def encode(image, labels, confidences, label_format, class_num):
    """Returns a record as bytes.

    Args:
      image: an `Image`.
      labels, confidences: indices of its classes below `class_num`, and for each a value in (0, 1], or -1.
      label_format: one of LABEL_KINDS; "single" needs exactly one label.
      class_num: number of classes.
    """
    feature = {}
    if label_format == "sparse":
        feature["label_index"] = _int64s(labels)
        feature["label_confidence"] = _floats(confidences)
    elif label_format == "dense":
        vector = np.zeros(class_num, "<f4")
        vector[list(labels)] = confidences
        feature["label"] = _bytes(vector.tobytes())
    else:
        if len(labels) != 1:
            raise RecordError(f"'{image.name}' has {len(labels)} labels; --label_format=single needs one an image")
        feature["label"] = _int64s(labels)
    return _serialize(image, feature)


def encode_boxes(image, boxes):
    """Returns a record of kind "boxes" as bytes.

    Args:
      image: an `Image`.
      boxes: a `box_list.Box` each, inside of the image, of which there may be none.
    """
    feature = {
        "box": _floats([edge for box in boxes for edge in box.edges]),
        "box_class": _int64s([box.label for box in boxes]),
        "difficult": _int64s([int(box.difficult) for box in boxes]),
        "truncated": _int64s([int(box.truncated) for box in boxes]),
    }
    return _serialize(image, feature)


def encode_mask(image, png):
    """Returns a record of kind "masks" as bytes, of an `Image` and a PNG as above, in bytes; else RecordError."""
    if not _is_mask(png, image.width, image.height):
        raise RecordError(f"'{image.name}': its mask is no PNG of 8 bits of grey of {image.width} x {image.height}")
    return _serialize(image, {"mask": _bytes(png)})


def _is_mask(png, width, height):
    """Whether bytes begin as a PNG of 8 bits of grey of this size."""
    size = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return png.startswith(PNG_BEGINS) and size == (width, height) and png[24:26] == GREY_8_BITS


def _serialize(image, feature):
    feature |= {
        "width": _int64s([image.width]),
        "height": _int64s([image.height]),
        "image": _bytes(image.encoded),
        "name": _bytes(image.name.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _int64s(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def label_kind(serialized, class_num, where):
    """Returns one of KINDS, by what the record `serialized` holds.

    Raises RecordError, which names `where`, if it is no record of ours, or its dense labels are not `class_num` many.
    """
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # protobuf's own DecodeError, whose module depends on its implementation
        raise RecordError(f"{where}: the first record is no tf.train.Example; is this a shard of ours?") from error
    features = dict(example.features.feature)
    label = features.get("label", tf.train.Feature())
    if "label_index" in features:
        return "sparse"
    if "box_class" in features:
        return "boxes"
    if "mask" in features:
        return "masks"
    if label.bytes_list.value:
        size = len(label.bytes_list.value[0])
        if size % 4 or not size:
            raise RecordError(f"{where}: the labels are {size} bytes, no float32 vector; is this a shard of ours?")
        if size // 4 != class_num:
            raise RecordError(
                f"{where}: the labels are of {size // 4} classes, not {class_num}: set --class_num={size // 4}"
            )
        return "dense"
    if label.int64_list.value:
        return "single"
    raise RecordError(f"{where}: the first record has no labels; its features are {', '.join(sorted(features))}")


def dense_classes(serialized):
    """Returns how many classes the dense labels of the record `serialized` are of, or None if it has none."""
    try:
        label = tf.train.Example.FromString(serialized).features.feature["label"].bytes_list.value
    except Exception:  # protobuf's own DecodeError; `label_kind` explains
        return None
    return len(label[0]) // 4 if label else None


def parse(serialized, kind, class_num):
    """Returns the features of a record, in TensorFlow operations that fail on one that does not fit.

    Args:
      serialized: string [].
      kind: what `label_kind` returned.
      class_num: number of classes.

    Returns:
      A dictionary with "image", string [], encoded; "name", string []; "label", float32 [class_num] of confidences
      in [0, 1] or -1, or for "single" int64 []. For "boxes", of n objects, "label" is int64 [n], beside "box", float32
      [n, 4] of left, top, right, bottom in pixels, inside of the image; "difficult" and "truncated", bool [n]; and
      "width" and "height", int64 []. For "masks", no "label", but "width" and "height", and "mask", string [], encoded.
    """
    features = {"image": tf.io.FixedLenFeature([], tf.string), "name": tf.io.FixedLenFeature([], tf.string, b"")}
    if kind == "boxes":
        return _parse_boxes(serialized, features, class_num)
    if kind == "masks":
        features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in ("width", "height")}
        return tf.io.parse_single_example(serialized, features | {"mask": tf.io.FixedLenFeature([], tf.string)})
    if kind == "sparse":
        features["label_index"] = tf.io.VarLenFeature(tf.int64)
        features["label_confidence"] = tf.io.VarLenFeature(tf.float32)
    else:
        features["label"] = tf.io.FixedLenFeature([], tf.string if kind == "dense" else tf.int64)
    record = tf.io.parse_single_example(serialized, features)
    if kind == "sparse":
        indices = record.pop("label_index").values
        confidences = record.pop("label_confidence").values
        _assert_confidences(confidences)
        tf.debugging.assert_less(indices, tf.constant(class_num, tf.int64))
        tf.debugging.assert_non_negative(indices)
        record["label"] = tf.tensor_scatter_nd_update(tf.zeros([class_num]), indices[:, None], confidences)
    elif kind == "dense":
        record["label"] = tf.ensure_shape(tf.io.decode_raw(record["label"], tf.float32), [class_num])
        _assert_confidences(record["label"], or_zero=True)
    else:
        tf.debugging.assert_less(record["label"], tf.constant(class_num, tf.int64))
        tf.debugging.assert_non_negative(record["label"])
    return record


def _parse_boxes(serialized, features, class_num):
    """`parse` of kind "boxes"; `features` are those of every kind."""
    lists = {"box": tf.float32, "box_class": tf.int64, "difficult": tf.int64, "truncated": tf.int64}
    features |= {name: tf.io.FixedLenFeature([], tf.int64) for name in ("width", "height")}
    features |= {name: tf.io.VarLenFeature(kind) for name, kind in lists.items()}
    record = tf.io.parse_single_example(serialized, features)
    values = {name: record.pop(name).values for name in lists}
    label, box = values["box_class"], tf.reshape(values["box"], [-1, 4])
    for other in (box, values["difficult"], values["truncated"]):
        tf.debugging.assert_equal(tf.shape(label)[0], tf.shape(other)[0], "the lists of boxes are not equally long")
    tf.debugging.assert_less(label, tf.constant(class_num, tf.int64))
    tf.debugging.assert_non_negative(label)
    tf.debugging.assert_all_finite(box, "an edge of a box")
    size = tf.cast(tf.stack([record["width"], record["height"]] * 2), tf.float32)
    clipped = tf.clip_by_value(box, 0.0, size)
    tf.debugging.assert_less_equal(tf.abs(box - clipped), box_list.TOLERANCE, "a box is outside of its image")
    tf.debugging.assert_greater(clipped[:, 2:], clipped[:, :2], "a box is empty")
    flags = {name: values[name] != 0 for name in ("difficult", "truncated")}
    return record | {"box": clipped, "label": label} | flags


def _assert_confidences(values, or_zero=False):
    """Fails on a NaN, too, which compares as false with everything."""
    allowed = (values > 0) & (values <= 1) | (values == -1)
    allowed = allowed | (values == 0) if or_zero else allowed
    tf.debugging.Assert(tf.reduce_all(allowed), ["a confidence is neither in (0, 1] nor -1"])


def decode(serialized, kind, where="a record", labels_only=False):
    """Returns name, encoded image and [(class, confidence), …] of a record, in Python; `kind` as of `label_kind`.

    For "boxes" the third is a list of `box_list.Box`, for "masks" the encoded mask. With `labels_only` it is returned
    alone, and the others need not be there.

    Raises RecordError, which names `where`, for one that does not fit.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # as in `label_kind`
        raise RecordError(f"{where}: no tf.train.Example; build the shard again") from error
    try:
        others = () if labels_only else tuple(features[key].bytes_list.value[0] for key in ("name", "image"))
        labels = _labels(features, kind)
    except (IndexError, ValueError) as error:
        what = f"{kind} labels" if kind in LABEL_KINDS else kind
        raise RecordError(f"{where}: its features are not those of {what}; build the shard again") from error
    for label, confidence in labels if kind in LABEL_KINDS else ():
        if label < 0 or not (0 < confidence <= 1 or confidence == -1):
            raise RecordError(
                f"{where}: class {label} has confidence {confidence:g}, which must be in (0, 1], or -1; build the "
                "shard again"
            )
    return labels if labels_only else (*others, labels)


def _labels(features, kind):
    """The third of `decode` from a record's features. Raises IndexError or ValueError for features of another kind."""
    if kind in ("boxes", "masks"):
        return _boxes(features) if kind == "boxes" else _mask(features)
    if kind == "sparse":
        indices = features["label_index"].int64_list.value
        return list(zip(indices, features["label_confidence"].float_list.value, strict=True))
    if kind == "dense":
        vector = np.frombuffer(features["label"].bytes_list.value[0], "<f4")
        return [(int(k), float(vector[k])) for k in np.flatnonzero(vector)]
    (label,) = features["label"].int64_list.value
    return [(label, 1.0)]


def _boxes(features):
    """The boxes of a record's features. Raises ValueError for features of another kind, and boxes not in the image."""
    edges = features["box"].float_list.value
    lists = [features[name].int64_list.value for name in ("box_class", "difficult", "truncated")]
    rows = zip(edges[::4], edges[1::4], edges[2::4], edges[3::4], *lists, strict=True)
    boxes = [box_list.Box(label, *box, bool(difficult), bool(truncated)) for *box, label, difficult, truncated in rows]
    if any(box.label < 0 for box in boxes):
        raise ValueError("a class is negative")
    return list(box_list.fit(boxes, *(features[name].int64_list.value[0] for name in ("width", "height"))))


def _mask(features):
    """The encoded mask of a record's features. Raises IndexError or ValueError for features of another kind."""
    png = features["mask"].bytes_list.value[0]
    if not _is_mask(png, *(features[name].int64_list.value[0] for name in ("width", "height"))):
        raise ValueError("the mask is no PNG of 8 bits of grey of the image's size")
    return png


def is_portrait(serialized) -> bool:
    """Whether the image of a record is higher than wide; False where the record does not say."""
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception:  # as in `label_kind`; whoever reads the record tells
        return False
    return list(features["height"].int64_list.value) > list(features["width"].int64_list.value)
