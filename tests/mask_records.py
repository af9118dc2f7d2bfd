"""Records of small images with masks, for several tests: those of `box_records`, whose rectangles have their pixels."""

import io

import numpy as np
from PIL import Image

from data_processing.records import schema, tfrecord
from tests import box_records, mask_files

# The background, and the colors of the rectangles.
CLASSES = 1 + box_records.CLASSES
NAMES = ["background", "red", "green", "blue"]


def drawn(number):
    """Returns a JPEG and its mask, uint8 [height, width]; of void are `number` % 4 pixels around each rectangle."""
    encoded, (width, height), boxes = box_records.drawn(number)
    mask = np.zeros([height, width], np.uint8)
    for box in boxes:
        around, edge = np.full([box.bottom - box.top, box.right - box.left], box.label + 1, np.uint8), number % 4
        mask[max(box.top - edge, 0) : box.bottom + edge, max(box.left - edge, 0) : box.right + edge] = schema.VOID
        mask[box.top : box.bottom, box.left : box.right] = around
    return encoded, mask


def pixels(number):
    """Returns the image, uint8 [height, width, 3], as Pillow decodes it."""
    with Image.open(io.BytesIO(drawn(number)[0])) as image:
        return np.asarray(image)


def name(number):
    return f"{number:06d}.jpg"


def record(number):
    """Returns the record of the image of this number as bytes."""
    encoded, mask = drawn(number)
    image = schema.Image(encoded, mask.shape[1], mask.shape[0], name(number))
    return schema.encode_mask(image, mask_files.png(mask, palette=None))


def write_shard(path, numbers):
    """Writes a shard of the images of these numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(tfrecord.frame(record(number)) for number in numbers))
