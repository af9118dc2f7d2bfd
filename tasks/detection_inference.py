"""What a trained detector finds in images: in which size it sees them, and boxes in their own pixels."""

from typing import NamedTuple

import tensorflow as tf

from data_processing.input_pipeline import box_transforms
from models import inference
from tasks.detection import SHORT_SIDE, choose_long_side


class Sides(NamedTuple):
    """In which size a detector sees an image; see `box_transforms.network_size`.

    Attributes:
      short, long: in pixels.
      says: the words for it, and for what says so.
    """

    short: int
    long: int
    says: str


def choose_sides(image_size, long_side, description):
    """Returns the `Sides` as a user asks for them, --image_size and --long_side or None, or as a checkpoint says."""
    short, says = inference.choose_image_size(image_size, description, SHORT_SIDE)
    long = choose_long_side(long_side, description, short)
    return Sides(short, long, f"short side {short}, long side at most {long} pixels ({says})")


def transform(sides):
    """Returns the function from an image, uint8 [height, width, 3], to the input of `finder`, as in evaluation."""

    def fitted(image):
        pixels, size, scale = box_transforms.fit(image, sides.short, sides.long)
        return {"image": pixels, "size": size, "scale": scale}

    return fitted


def finder(detector):
    """Returns the function from a batch of what `transform` makes, of one size, to what is in its images.

    That is what `Detector.detect` returns, with boxes in pixels of the images as they were before `transform`.
    """

    def find(batch):
        found = detector.detect(batch["image"], batch["size"])
        return found | {"boxes": box_transforms.scaled(found["boxes"], 1 / batch["scale"])}

    signature = {
        "image": tf.TensorSpec([None, None, None, 3], tf.float32),
        "size": tf.TensorSpec([None, 2], tf.int32),
        "scale": tf.TensorSpec([None, 2], tf.float32),
    }
    return tf.function(find, input_signature=[signature])
