"""One row of a list and its image: the record of the two, or the reason why there is none."""

import errno
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_processing.images import archives, image_files, mask_files
from data_processing.lists import box_list
from data_processing.records import schema

# What the operating system says of one image alone. Any other error, of a full disk or a lost file server say, ends the
# run: images that are there must not be left out of a shard that then counts as complete.
UNUSABLE = ("ENOENT", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "EINVAL", "EILSEQ")

SIDEWAYS = (5, 6, 7, 8)


class Made(NamedTuple):
    """Attributes:
    row: of the list.
    record: as bytes, or None.
    reason: why there is none, or "".
    is_portrait: whether its image is higher than wide.
    """

    row: NamedTuple
    record: bytes | None
    reason: str = ""
    is_portrait: bool = False


def make(row, images, config) -> Made:
    """Returns what became of a row.

    Args:
      row: of the list, a `box_list.Row` where `config.label_format` is "boxes", a `mask_list.Row` where it is "masks",
        else an `image_list.Row`.
      images: folder that its path is relative to; see `archives.read_file` for tar archives in it.
      config: `ShardConfig`; of it, `label_format`, `class_num`, `max_pixels`, `resize_short`, `jpeg_quality` and, of
        masks, `void_index` count.

    The row comes back as it was, that of a mask with the classes in it. Raises OSError if the machine fails, not
    the image.
    """
    is_boxes, is_mask = config.label_format == "boxes", config.label_format == "masks"
    if (is_boxes or is_mask) and row.problem:
        return Made(row, None, row.problem)
    try:
        data = archives.read_file(images, row.path, config.max_pixels)
        encoded, width, height = image_files.as_jpeg(data, config.max_pixels, config.resize_short, config.jpeg_quality)
        image = schema.Image(encoded, width, height, row.path)
        if is_boxes:
            record = schema.encode_boxes(image, reduced_boxes(row, image_files.stored(data), width, height))
        elif is_mask:
            classes = upright_mask(row, image_files.stored(data), config)
            # Of a reduced image each pixel has the class of its center.
            classes = np.asarray(Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST))
            row = row._replace(labels=tuple(k for k in np.unique(classes).tolist() if k != mask_files.VOID))
            record = schema.encode_mask(image, mask_files.encode(classes))
        else:
            record = schema.encode(image, row.labels, row.confidences, config.label_format, config.class_num)
    except OSError as error:
        if errno.errorcode.get(error.errno) not in UNUSABLE:
            raise
        return Made(row, None, error.strerror)
    except (image_files.ImageError, box_list.BoxError) as error:
        return Made(row, None, str(error))
    except MemoryError as error:
        raise OSError(f"{row.path}: out of memory; free some, and resume with the same command") from error
    return Made(row, record, is_portrait=height > width)


def upright_mask(row, stored, config):
    """Returns a row's mask in the pixels of its image as records hold it: classes or VOID, uint8 [height, width].

    Args:
      row: a `mask_list.Row`.
      stored: the `image_files.Stored` of its image.
      config: as of `make`.

    As `upright_boxes` for an image that EXIF turns: the size of the mask says, which of both it is of. Raises
    ImageError for a mask that is missing or that cannot be used.
    """
    width, height, orientation = stored
    try:
        data = archives.read_file(row.folder, row.mask, config.max_pixels)
        size, turned = (width, height), (height, width) if orientation in SIDEWAYS else (width, height)
        if orientation and turned == size:
            raise image_files.ImageError(
                f"EXIF orientation {orientation} of the image, and nothing tells whether the mask is of it before or "
                "after; turn the image's pixels upright, or take the orientation away"
            )
        is_turned = orientation and mask_files.png_size(data) == turned
        classes = mask_files.read(data, turned if is_turned else size)
        if orientation and not is_turned:
            classes = np.asarray(Image.fromarray(classes).transpose(image_files.ORIENTATIONS[orientation]))
        return mask_files.to_classes(classes, config.void_index, config.class_num)
    except OSError as error:
        if errno.errorcode.get(error.errno) not in UNUSABLE:
            raise
        raise image_files.ImageError(f"mask: {error.strerror}: {row.mask}") from error
    except image_files.ImageError as error:
        raise image_files.ImageError(f"mask: {error}") from error


def reduced_boxes(row, stored, width, height):
    """As `upright_boxes`, of an image that was reduced to `width` x `height` pixels, or not."""
    before = (stored.height, stored.width) if stored.orientation in SIDEWAYS else (stored.width, stored.height)
    return tuple(
        box._replace(
            left=box.left * width / before[0],
            top=box.top * height / before[1],
            right=box.right * width / before[0],
            bottom=box.bottom * height / before[1],
        )
        for box in upright_boxes(row, stored)
    )


def upright_boxes(row, stored):
    """Returns the boxes of a row in the pixels of its image as records hold it: upright, whatever its file says.

    Args:
      row: a `box_list.Row`.
      stored: the `image_files.Stored` of its image.

    An image that EXIF turns has two forms, and programs that draw boxes show the one or the other: which one it was,
    the row's size says, where width and height change places and differ. Raises `box_list.BoxError` where it does not,
    where the size is that of neither, and for boxes that do not fit.
    """
    width, height, orientation = stored
    turned = (height, width) if orientation in SIDEWAYS else (width, height)
    if row.size not in (None, (width, height), turned):
        raise box_list.BoxError(
            f"the image has {width} x {height} pixels, its annotation is of {row.size[0]} x {row.size[1]}"
        )
    boxes = row.boxes
    if orientation and boxes and (row.size is None or turned == (width, height)):
        raise box_list.BoxError(
            f"EXIF orientation {orientation}, and the annotation does not tell whether its boxes are of the image "
            "before or after; turn the pixels upright, or take the orientation away"
        )
    if orientation and row.size == (width, height):
        boxes = [turn(box, orientation, width, height) for box in boxes]
    return box_list.fit(boxes, *turned)


def turn(box, orientation, width, height):
    """Returns a `box_list.Box` of an image of `width` x `height` as it lies after EXIF's orientation 5 to 8."""
    left, top, right, bottom = box.edges
    if orientation in (6, 7):  # what was below comes to the left
        top, bottom = height - bottom, height - top
    if orientation in (7, 8):  # what was right comes to the top
        left, right = width - right, width - left
    return box._replace(left=top, top=left, right=bottom, bottom=right)
