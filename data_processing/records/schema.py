"""The record's schema, in this one place: a `tf.train.Example` in a TFRecord file.

    width, height    int64                 pixels
    image            bytes                 encoded JPEG
    name             bytes                 path in the image list
    labels, one of
      label_index, label_confidence   int64 and float lists      multi-label ("sparse"): tens of bytes
      label                           bytes                      multi-label as published ("dense"): the float32 vector
                                                                 of all classes, 44,664 bytes for 11,166
      label                           int64                      single-label ("single")
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_processing.records.tfrecord import RecordError

KINDS = ("sparse", "dense", "single")


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
      label_format: "sparse", "dense" or "single"; "single" needs exactly one label.
      class_num: number of classes.
    """
    feature = {
        "width": _int64s([image.width]),
        "height": _int64s([image.height]),
        "image": _bytes(image.encoded),
        "name": _bytes(image.name.encode()),
    }
    if label_format == "sparse":
        feature["label_index"] = _int64s(labels)
        feature["label_confidence"] = tf.train.Feature(float_list=tf.train.FloatList(value=confidences))
    elif label_format == "dense":
        vector = np.zeros(class_num, "<f4")
        vector[list(labels)] = confidences
        feature["label"] = _bytes(vector.tobytes())
    else:
        if len(labels) != 1:
            raise RecordError(f"'{image.name}' has {len(labels)} labels; --label_format=single needs one an image")
        feature["label"] = _int64s(labels)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _int64s(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def label_kind(serialized, class_num, where):
    """Returns "sparse", "dense" or "single", by what the record `serialized` holds.

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
    if label.bytes_list.value:
        size = len(label.bytes_list.value[0])
        if size % 4:
            raise RecordError(f"{where}: the labels are {size} bytes, no float32 vector; is this a shard of ours?")
        if size // 4 != class_num:
            raise RecordError(
                f"{where}: the labels are of {size // 4} classes, not {class_num}: set --class_num={size // 4}"
            )
        return "dense"
    if label.int64_list.value:
        return "single"
    raise RecordError(f"{where}: the first record has no labels; its features are {', '.join(sorted(features))}")


def parse(serialized, kind, class_num):
    """Returns the features of a record, in TensorFlow operations that fail on one that does not fit.

    Args:
      serialized: string [].
      kind: what `label_kind` returned.
      class_num: number of classes.

    Returns:
      A dictionary with "image", string [], encoded; "name", string []; "label", float32 [class_num] of confidences
      in [0, 1] or -1, or for "single" int64 [].
    """
    features = {"image": tf.io.FixedLenFeature([], tf.string), "name": tf.io.FixedLenFeature([], tf.string, b"")}
    if kind == "sparse":
        features["label_index"] = tf.io.VarLenFeature(tf.int64)
        features["label_confidence"] = tf.io.VarLenFeature(tf.float32)
    else:
        features["label"] = tf.io.FixedLenFeature([], tf.string if kind == "dense" else tf.int64)
    record = tf.io.parse_single_example(serialized, features)
    if kind == "sparse":
        indices = record.pop("label_index").values
        confidences = record.pop("label_confidence").values
        tf.debugging.assert_less(indices, tf.constant(class_num, tf.int64))
        tf.debugging.assert_non_negative(indices)
        record["label"] = tf.tensor_scatter_nd_update(tf.zeros([class_num]), indices[:, None], confidences)
    elif kind == "dense":
        record["label"] = tf.ensure_shape(tf.io.decode_raw(record["label"], tf.float32), [class_num])
    else:
        tf.debugging.assert_less(record["label"], tf.constant(class_num, tf.int64))
        tf.debugging.assert_non_negative(record["label"])
    return record


def decode(serialized, kind):
    """Returns name, encoded image and [(class, confidence), …] of a record, in Python; `kind` as of `label_kind`."""
    features = tf.train.Example.FromString(serialized).features.feature
    name, image = (features[key].bytes_list.value[0] for key in ("name", "image"))
    if kind == "sparse":
        indices = features["label_index"].int64_list.value
        labels = list(zip(indices, features["label_confidence"].float_list.value, strict=True))
    elif kind == "dense":
        vector = np.frombuffer(features["label"].bytes_list.value[0], "<f4")
        labels = [(int(k), float(vector[k])) for k in np.flatnonzero(vector)]
    else:
        labels = [(features["label"].int64_list.value[0], 1.0)]
    return name, image, labels
