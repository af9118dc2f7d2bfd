"""What a detector finds in single images, as the task of detection says it of a batch of evaluation; and its sizes."""

import numpy as np
import pytest
import tensorflow as tf

from models.metadata import Description
from tasks import detection_inference
from tasks.detection import Detection
from tests import detector_worlds
from tests.detector_worlds import LONG, SHORT


def test_objects_are_those_of_the_task():
    """Records' images are resized on the device, in batches; files' one by one, in the input pipeline."""
    sizes = [(60, 80), (64, 81), (70, 95)]
    images = [detector_worlds.pixels(*size, seed=k) for k, size in enumerate(sizes)]
    detector = detector_worlds.detector()
    fit = detection_inference.transform(detection_inference.Sides(SHORT, LONG, ""))
    inputs = [fit(tf.constant(image)) for image in images]
    batch = {name: tf.stack([one[name] for one in inputs]) for name in inputs[0]}
    found = detection_inference.finder(detector)(batch)
    padded = [np.pad(image, [(0, 70 - len(image)), (0, 95 - image.shape[1]), (0, 0)]) for image in images]
    records = {"image": tf.stack(padded), "original": tf.constant(sizes), "short_side": tf.constant([SHORT] * 3)}
    expected = tf.function(Detection(detector, LONG).forward)(records)
    for k in range(len(sizes)):
        one, other = (
            [answer[name][k].numpy() for name in ("boxes", "scores", "classes")] for answer in (found, expected)
        )
        detector_worlds.assert_same(one, other)


@pytest.mark.parametrize(
    ("asked", "held", "expected"),
    [
        ((None, None), {}, (600, 1000)),
        ((300, None), {}, (300, 500)),
        ((None, None), {"image_size": 128, "long_side": 200}, (128, 200)),
        ((96, None), {"image_size": 128, "long_side": 200}, (96, 200)),
        ((None, 150), {"image_size": 128, "long_side": 200}, (128, 150)),
    ],
)
def test_sizes(asked, held, expected):
    sides = detection_inference.choose_sides(*asked, Description(10, 3, 1, **held))
    assert (sides.short, sides.long) == expected
    assert f"short side {expected[0]}, long side at most {expected[1]} pixels" in sides.says
