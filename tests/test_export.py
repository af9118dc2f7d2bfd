"""The exported model: its way from encoded images to the network's input, what it answers, and the script."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from data_processing.input_pipeline.transforms import evaluation_image
from evaluation import thresholds
import export
from models import checkpoint
from models.resnet import build_resnet
from tests.scripts import run_script

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


def classifier(image_size=32, head="softmax", threshold=None):
    """A classifier whose logits are the means of the three channels."""

    def model(images, training):
        return {"logits": tf.reduce_mean(images, [1, 2])}

    return export.Classifier(model, ["red", "green", "blue"], head, 2, image_size, threshold)


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
    assert answers["scores"].shape == (0, 3)


def test_all_scores_and_the_threshold():
    """Names and threshold have no row for each image: the second signature, for rows of JSON, is without them."""
    images = tf.constant([FILES["png"], FILES["bmp"], FILES["jpeg"]])
    sigmoid = classifier(head="sigmoid", threshold=0.3)
    answers = {name: value.numpy() for name, value in sigmoid.serve(images).items()}
    assert answers["names"].tolist() == [b"red", b"green", b"blue"] and answers["threshold"] == np.float32(0.3)
    pixels = np.stack([evaluation_image(image_files.decode(image), 32).numpy() for image in images.numpy()])
    expected = 1 / (1 + np.exp(-pixels.mean(axis=(1, 2))))
    np.testing.assert_allclose(answers["scores"], expected, atol=1e-5)
    np.testing.assert_array_equal(answers["score"], -np.sort(-answers["scores"], axis=1)[:, :2])
    np.testing.assert_array_equal(answers["index"], np.argsort(-answers["scores"], axis=1)[:, :2])
    rows = sigmoid.rows(images)
    assert set(rows) == {"name", "score", "index", "scores"} and {value.shape[0] for value in rows.values()} == {3}
    assert set(classifier().serve(images)) == {*rows, "names"}


def test_the_script(tmp_path):
    """It takes names, head, image size and threshold from the checkpoint, and prints a line."""
    names = "".join(f'{k}\tName {k}, "é"\n' for k in range(6))
    variables = checkpoint.model_variables(build_resnet(10, 6, seed=3))
    prefix = checkpoint.save(tmp_path / "named", 1, variables, 1, checkpoint.Metadata("sigmoid", "sigmoid", 32, names))
    thresholds.write(prefix, thresholds.Threshold(0.25, 0.5, "records"))
    done = run_script("export.py", "--model_dir=named", "--output_dir=one", cwd=tmp_path)
    assert done.stdout == (
        "written: one, ResNet-10, 6 classes, sigmoid head (the checkpoint says so), for 32 pixels (as it was trained), "
        "threshold 0.25 (best F1 on records)\n"
    )
    assert "input_1" not in done.stderr and "Assets written" not in done.stderr
    # Two signatures, but the weights are there once, as constants.
    size = sum(path.stat().st_size for path in (tmp_path / "one").rglob("*") if path.is_file())
    weights = 4 * sum(variable.numpy().size for variable in variables.values())
    assert weights < size < 2 * weights
    model = tf.saved_model.load(str(tmp_path / "one"))
    assert set(model.signatures) == {"serving_default", "rows"}
    answers = model.signatures["serving_default"](image=tf.constant([FILES["png"], FILES["bmp"]]))
    assert answers["names"].numpy()[3].decode() == 'Name 3, "é"' and answers["threshold"].numpy() == 0.25
    assert answers["scores"].shape == (2, 6) and answers["name"].shape == (2, 5)
    assert model.signatures["rows"](image=tf.constant([FILES["png"]]))["scores"].shape == (1, 6)
    done = run_script("export.py", "--model_dir=named", "--output_dir=2", "--head=softmax", cwd=tmp_path, status=1)
    assert "--head=softmax, but the checkpoint was trained with a sigmoid head" in done.stderr


@pytest.mark.slow
def test_the_script_where_the_checkpoint_says_nothing(tmp_path):
    checkpoint.save(tmp_path / "silent", 1, checkpoint.model_variables(build_resnet(10, 6)), 1)
    done = run_script("export.py", "--model_dir=silent", "--output_dir=two", "--head=sigmoid", cwd=tmp_path)
    assert "224 pixels (nothing says otherwise" in done.stdout and "threshold 0.5 (evaluate.py" in done.stdout
    assert "no names, only indices" in done.stdout
