"""A row of boxes and its image: the boxes of a record are true to the image in it, however its file lies."""

import io

import numpy as np
from PIL import Image, ImageOps
import pytest

from data_processing.images import image_files
from data_processing.lists.box_list import Box, Row
from data_processing.records import image_record, schema, shard_writer

CONFIG = shard_writer.ShardConfig("train", "boxes", 3, num_shards=1, random_seed=1, max_rejected=0.0)
WIDTH, HEIGHT = 48, 32
# Of the image as it lies in the file; bright inside, on black.
BOX = (8, 4, 24, 12)


def image(orientation=None, size=(WIDTH, HEIGHT), kind="JPEG"):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    left, top, right, bottom = BOX
    pixels[top:bottom, left:right] = 255
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def make(folder, data, size, boxes=(Box(1, *BOX),), problem=""):
    (folder / "a.jpg").write_bytes(data)
    return image_record.make(Row("a.jpg", size, boxes, problem), folder, CONFIG)


def bright(encoded):
    """The box around what is bright."""
    rows, columns = np.nonzero(np.asarray(Image.open(io.BytesIO(encoded)).convert("L")) > 128)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("form", ["as stored", "as shown"])
def test_boxes_turn_with_the_image(tmp_path, orientation, form, kind):
    """What the annotation's size is that of, stored pixels or those that a viewer shows, its boxes are of."""
    data = image(orientation, kind=kind)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    box = bright(image()) if form == "as stored" else bright(_png(shown))
    size = (WIDTH, HEIGHT) if form == "as stored" else shown.size
    made = make(tmp_path, data, size, (Box(1, *map(int, box), difficult=True),))
    assert made.is_portrait and made.reason == ""
    _, encoded, [found] = schema.decode(made.record, "boxes")
    assert Image.open(io.BytesIO(encoded)).size == shown.size == (HEIGHT, WIDTH)
    assert found.edges == bright(encoded) == bright(_png(shown)) and found.difficult


def _png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (image(3), (WIDTH, HEIGHT)),  # upside down has the same size
        (image(2), (WIDTH, HEIGHT)),
        (image(6), None),
        (image(6, (WIDTH, WIDTH)), (WIDTH, WIDTH)),
    ],
)
def test_where_nothing_tells_which_way_boxes_lie_there_is_no_record(tmp_path, data, size):
    made = make(tmp_path, data, size)
    assert made.record is None and "the annotation does not tell whether its boxes are" in made.reason
    assert make(tmp_path, data, size, boxes=()).record  # nothing to be wrong


@pytest.mark.parametrize(
    ("data", "size", "boxes", "reason"),
    [
        (image(), (HEIGHT, WIDTH), (), "the image has 48 x 32 pixels, its annotation is of 32 x 48"),
        (image(6), (50, 32), (), "the image has 48 x 32 pixels, its annotation is of 50 x 32"),
        (image(), (WIDTH, HEIGHT), (Box(1, 0, 0, 50, 32),), r"box 1 \(0, 0, 50, 32\) is outside of the image, 48 x 32"),
        (image(), None, (Box(1, 0, 0, 48, 34),), "is outside of the image, 48 x 32"),
        (image()[:300], (WIDTH, HEIGHT), (), image_files.TRUNCATED),
        (b"", (WIDTH, HEIGHT), (), "empty file"),
    ],
)
def test_what_does_not_fit_is_no_record(tmp_path, data, size, boxes, reason):
    made = make(tmp_path, data, size, boxes)
    assert made.record is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(made.reason)


def test_other_reasons(tmp_path):
    assert make(tmp_path, image(), None, (), "annotation: missing").reason == "annotation: missing"
    (tmp_path / "a.jpg").unlink()
    row = Row("a.jpg", None, ())
    assert image_record.make(row, tmp_path, CONFIG).reason == "No such file or directory"
    made = make(tmp_path, image(1), None)
    assert schema.decode(made.record, "boxes")[1] == image(1)  # the very bytes, where nothing is to be turned
    assert image_files.stored(image(1)) == (WIDTH, HEIGHT, None)
