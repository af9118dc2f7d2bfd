"""Shards of a few records in each kind of labels, for several tests."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from data_processing.images import mask_files
from data_processing.lists import box_list
from data_processing.records import schema, tfrecord

CLASSES = 6
SHARDS = (11, 1, 17, 8)
RECORDS = sum(SHARDS)


def jpeg(k, rng):
    """An image of noise about a colour of its own."""
    pixels = rng.integers(0, 60, (40, 48, 3)) + np.array([k * 5 % 190, k * 17 % 190, k * 29 % 190])
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def record(k, label_format="sparse", class_num=CLASSES, image=None):
    image = image or jpeg(k, np.random.default_rng(k))
    if label_format == "boxes":
        boxes = [box_list.Box(0, 1, 2, 30, 40, difficult=True), box_list.Box(k % class_num, 0.5, 0, 48, 20)]
        return schema.encode_boxes(schema.Image(image, 48, 40, f"{k}.jpg"), boxes)
    if label_format == "masks":
        classes = np.full((40, 48), schema.VOID, np.uint8)
        classes[: 5 + k] = k % class_num
        return schema.encode_mask(schema.Image(image, 48, 40, f"{k}.jpg"), mask_files.encode(classes))
    labels, confidences = ([k % CLASSES], [1.0]) if label_format == "single" else ([k % 5, 5], [0.75, -1.0])
    return schema.encode(schema.Image(image, 48, 40, f"{k}.jpg"), labels, confidences, label_format, class_num)


def write_shards(folder, *args, counts=SHARDS, **options):
    folder.mkdir(exist_ok=True)
    paths, first = [], 0
    for shard, count in enumerate(counts):
        paths.append(str(folder / f"train-{shard:05d}-of-{len(counts):05d}.tfrecords"))
        frames = [tfrecord.frame(record(k, *args, **options)) for k in range(first, first + count)]
        Path(paths[-1]).write_bytes(b"".join(frames))
        first += count
    return paths
