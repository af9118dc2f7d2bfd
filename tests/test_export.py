"""The exported model's way from encoded images to the network's input, against that of image_classification.py."""

import io
import struct

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline.transforms import evaluation_image
import export

RNG = np.random.default_rng(0)
# Fields of one colour each, which JPEG keeps.
RGBA = np.repeat(np.repeat(RNG.integers(0, 256, (12, 18, 4), np.uint8), 5, axis=0), 5, axis=1)


def image(mode, colours=256):
    image = Image.fromarray(RGBA if "A" in mode else RGBA[..., :3])
    if mode == "P":
        return image.quantize(colours)
    return image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)


def encoded(mode, file_format, colours=256, **options):
    data = io.BytesIO()
    image(mode, colours).save(data, file_format, **options)
    return data.getvalue()


FILES = {
    "jpeg": encoded("RGB", "JPEG", subsampling=0),
    "progressive jpeg": encoded("RGB", "JPEG", progressive=True),
    "grey jpeg": encoded("L", "JPEG"),
    "png": encoded("RGB", "PNG"),
    "grey png": encoded("L", "PNG"),
    "palette png": encoded("P", "PNG"),
    "one-bit png": encoded("1", "PNG"),
    "two-bit palette png": encoded("P", "PNG", colours=4),
    "16-bit grey png": encoded("I;16", "PNG"),
    "png with alpha": encoded("RGBA", "PNG"),
    "grey png with alpha": encoded("LA", "PNG"),
    "palette png, one transparent": encoded("P", "PNG", transparency=3),
    "palette png with alpha": encoded("P", "PNG", transparency=bytes(range(256))),
    "two-bit palette png, one transparent": encoded("P", "PNG", colours=4, transparency=0),
    "grey png, one transparent": encoded("L", "PNG", transparency=image("L").getpixel((0, 0))),
    "png with a transparent colour": encoded("RGB", "PNG", transparency=image("RGB").getpixel((0, 0))),
    "gif": encoded("P", "GIF"),
    "bmp": encoded("RGB", "BMP"),
}


def classifier(image_size=32):
    """A classifier whose logits are the means of the three channels."""

    def model(images, training):
        return {"logits": tf.reduce_mean(images, [1, 2])}

    return export.Classifier(model, ["red", "green", "blue"], "softmax", 2, image_size)


@pytest.fixture(scope="module")
def decode():
    return tf.function(export.decode, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("kind", FILES)
def test_pixels_are_those_of_pillow(kind, decode):
    expected = image_files.decode(FILES[kind])
    # (Decoders of JPEGs differ by a grey level here and there.)
    tolerance = 2 if "jpeg" in kind else 0
    np.testing.assert_allclose(decode(FILES[kind]).numpy().astype(int), expected, atol=tolerance, rtol=0)


def test_a_image_with_alpha_becomes_the_same_input():
    data = FILES["png with alpha"]
    found = classifier()._image(tf.constant(data)).numpy()
    np.testing.assert_array_equal(found, evaluation_image(image_files.decode(data), 32).numpy())
    assert found.std() > 0.1


def with_size(kind, at, form, *size):
    data, size = FILES[kind], struct.pack(form, *size)
    return data[:at] + size + data[at + len(size) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_size("png", 16, ">ii", 12_000, 12_000), "too many pixels"),
        (with_size("gif", 6, "<HH", 12_000, 12_000), "too many pixels"),
        (with_size("bmp", 18, "<ii", 12_000, -12_000), "too many pixels"),
        (with_size("png", 16, ">ii", 2**31 - 1, 2**31 - 1), "too many pixels"),
        (with_size("png", 16, ">ii", 1, 12_000), "over 100 times as long as wide"),
        (FILES["png"][:20], "or truncated"),
        (FILES["png"][:-200], "PNG"),
        (b"<!DOCTYPE html>", "neither JPEG, PNG, GIF nor BMP"),
        (b"", "neither JPEG, PNG, GIF nor BMP"),
    ],
    ids=["png", "gif", "bmp", "huge png", "narrow png", "header of a png", "cut png", "html", "empty"],
)
def test_refused(data, message, decode):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(data)


def test_batches_of_different_kinds_and_of_none():
    small = classifier()
    found = small.serve(tf.constant([*FILES.values()]))
    assert found["name"].shape == found["score"].shape == (len(FILES), 2)
    found = small.serve(tf.constant([], tf.string))
    assert found["name"].shape == found["score"].shape == found["index"].shape == (0, 2)
