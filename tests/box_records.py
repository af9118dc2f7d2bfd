"""Records of small images with boxes, for several tests: bright rectangles, whose color is their class, on dark."""

import io

import numpy as np
from PIL import Image

from data_processing.lists.box_list import Box
from data_processing.records import schema, tfrecord

COLORS = ((230, 60, 60), (60, 230, 60), (60, 60, 230))
CLASSES = len(COLORS)
# Widths and heights, of images in both orientations.
SIZES = ((96, 72), (72, 96), (96, 96), (80, 64))


def drawn(number):
    """Returns a JPEG, its size and its `Box`es: one or two, apart from each other; the same for each `number`."""
    random = np.random.default_rng(number)
    width, height = SIZES[number % len(SIZES)]
    pixels = random.integers(0, 70, (height, width, 3)).astype(np.uint8)
    boxes = []
    for k in range(1 + number % 2):
        label = int(random.integers(CLASSES))
        wide, high = random.integers(24, 36, 2)
        left = int(random.integers(2, width // 2 - 6)) if k == 0 else int(random.integers(width // 2, width - 26))
        top = int(random.integers(2, height - 26))
        right = min(left + int(wide), width // 2 - 2 if k == 0 and number % 2 else width)
        bottom = min(top + int(high), height)
        pixels[top:bottom, left:right] = COLORS[label]
        boxes.append(Box(label, left, top, right, bottom))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), (width, height), boxes


def record(number):
    """Returns the record of the image of this number as bytes."""
    encoded, (width, height), boxes = drawn(number)
    return schema.encode_boxes(schema.Image(encoded, width, height, f"{number:06d}.jpg"), boxes)


def write_shard(path, numbers):
    """Writes a shard of the images of these numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(tfrecord.frame(record(number)) for number in numbers))
