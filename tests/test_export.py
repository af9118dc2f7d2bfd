"""The exported model's way from encoded images to the network's input, against that of image_classification.py."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline.transforms import evaluation_image
import export

# Fields of one colour each, which JPEG keeps.
RGBA = np.random.default_rng(0).integers(0, 256, (12, 18, 4), np.uint8).repeat(5, axis=0).repeat(5, axis=1)


def encoded(mode, file_format, **options):
    data = io.BytesIO()
    image = Image.fromarray(RGBA).convert("RGB").quantize() if mode == "P" else Image.fromarray(RGBA).convert(mode)
    image.save(data, file_format, **options)
    return data.getvalue()


FILES = {
    "jpeg": encoded("RGB", "JPEG", subsampling=0),
    "grey jpeg": encoded("L", "JPEG"),
    "png": encoded("RGB", "PNG"),
    "png with alpha": encoded("RGBA", "PNG"),
    "gif": encoded("P", "GIF"),
    "transparent gif": encoded("P", "GIF", transparency=3),
    "bmp": encoded("RGB", "BMP"),
}


def classifier(image_size=32):
    """A classifier whose logits are the means of the three channels."""

    def model(images, training):
        return {"logits": tf.reduce_mean(images, [1, 2])}

    return export.Classifier(model, ["red", "green", "blue"], "softmax", 2, image_size)


@pytest.mark.parametrize("kind", ["png with alpha", "transparent gif"])
def test_what_is_transparent_becomes_the_same_input(kind):
    image = classifier()._image(tf.constant(FILES[kind])).numpy()
    np.testing.assert_array_equal(image, evaluation_image(image_files.decode(FILES[kind]), 32).numpy())
    assert image.std() > 0.1


def test_batches_of_different_kinds_and_of_none():
    small = classifier()
    answers = small.serve(tf.constant([*FILES.values()]))
    assert answers["name"].shape == answers["score"].shape == (len(FILES), 2)
    answers = small.serve(tf.constant([], tf.string))
    assert answers["name"].shape == answers["score"].shape == answers["index"].shape == (0, 2)
