"""The exported network of masks: encoded images in, masks out, as semantic_segmentation.py writes them."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
from evaluation import palette
import export
from models import checkpoint
from models.deeplab import DeepLabConfig, build_deeplab, enlarged
from tests import detector_worlds
from tests.encoded_images import encoded
from tests.scripts import run_script

NAMES = ["background", "cat", 'dog, "é"', "person"]
SIZES = [(64, 96), (80, 60), (1, 1)]
PICTURES = [Image.fromarray(detector_worlds.pixels(height, width, seed=height)) for height, width in SIZES]
FILES = {
    "0.png": encoded(PICTURES[0], "PNG"),
    "1.jpg": encoded(PICTURES[1], "JPEG", quality=95, subsampling=0),
    "2.bmp": encoded(PICTURES[2], "BMP"),
}
# What a server does that has nothing of ours.
SERVER = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
images = tf.constant([open(path, "rb").read() for path in sys.argv[2:]])
answers = {name: value.numpy() for name, value in served.signatures["serving_default"](image=images).items()}
names = [name.decode() for name in answers.pop("names")]
rows = sorted(served.signatures["rows"](image=images))
print(json.dumps({name: value.tolist() for name, value in answers.items()} | {"names": names, "rows": rows}))
"""


def network():
    """One of random weights whose logits are not all alike."""
    model = build_deeplab(10, len(NAMES), config=DeepLabConfig(8, True))
    kernel = checkpoint.model_variables(model)["segmentation/logits/conv2d/kernel"]
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape))
    return model


@pytest.fixture(scope="module")
def segmenter():
    model = network()
    return model, export.Segmenter(model, NAMES, 129 * 129)


def assert_best(mask, model, image):
    """That the mask has the highest logit, but for roundings, of the image, which NumPy pads to 64 k + 1 pixels."""
    height, width = image.shape[:2]
    padded = np.zeros([1, *(-(-(side - 1) // 64) * 64 + 1 for side in (height, width)), 3], np.float32)
    padded[0, :height, :width] = image / 127.5 - 1
    scores = enlarged(model(tf.constant(padded)), padded.shape[1:3])[0, :height, :width].numpy()
    best = np.take_along_axis(scores, mask[..., None], -1)[..., 0]
    np.testing.assert_array_less(scores.max(-1) - 1e-3, best)


def test_masks_of_images_of_different_sizes_and_formats(segmenter):
    model, served = segmenter
    answers = {name: value.numpy() for name, value in served.serve(tf.constant([*FILES.values()])).items()}
    assert answers["masks"].shape == (3, 80, 96) and answers["masks"].dtype == np.int32
    np.testing.assert_array_equal(answers["sizes"], SIZES)
    assert [name.decode() for name in answers["names"]] == NAMES
    for mask, data, (height, width) in zip(answers["masks"], FILES.values(), SIZES, strict=True):
        assert_best(mask[:height, :width], model, image_files.decode(data))
        assert (mask[height:] == -1).all() and (mask[:, width:] == -1).all()
        # No image depends on the others.
        alone = served.rows(tf.constant([data]))
        assert set(alone) == {"masks", "sizes"}
        np.testing.assert_array_equal(alone["masks"][0], mask[:height, :width])
    assert len(np.unique(answers["masks"][0])) > 1


def test_an_empty_batch_what_is_no_image_and_one_that_is_too_large(segmenter):
    _, served = segmenter
    answers = served.serve(tf.constant([], tf.string))
    assert answers["masks"].shape[0] == 0 and answers["sizes"].shape == (0, 2) and answers["names"].shape == (4,)
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG, PNG, GIF nor BMP"):
        served.serve(tf.constant([b"<html>" + bytes(40)]))
    large = encoded(Image.fromarray(detector_worlds.pixels(129, 130, seed=0)), "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than --max_pixels"):
        served.serve(tf.constant([large]))


def test_scores_that_are_not_finite():
    model = network()
    checkpoint.model_variables(model)["segmentation/logits/conv2d/kernel"].assign(
        np.full([1, 1, 256, len(NAMES)], np.nan)
    )
    served = export.Segmenter(model, NAMES, 129 * 129)
    assert (served.rows(tf.constant([FILES["0.png"]]))["masks"].numpy() == -1).all()


def test_the_script_and_a_server_that_has_nothing_of_ours(tmp_path):
    """Both scripts and the server compute the same masks, but for roundings."""
    names = "".join(f"{k}\t{name}\n" for k, name in enumerate(NAMES))
    said = checkpoint.Metadata("masks", "deeplab", 65, names, output_stride=8, decoder=True)
    model = network()
    checkpoint.save(tmp_path / "network", 7, checkpoint.model_variables(model), 1, said)
    (tmp_path / "images").mkdir()
    for name, data in FILES.items():
        (tmp_path / "images" / name).write_bytes(data)
    done = run_script("export.py", "--model_dir=network", "--output_dir=exported", cwd=tmp_path)
    assert done.stdout == (
        "written: exported, DeepLab v3+ on ResNet-10, 4 classes, output stride 8, images of at most 1,050,625 pixels\n"
    )
    options = ["--model_dir=network", "--images=images", "--result=masks", "--data_format=NHWC"]
    run_script("semantic_segmentation.py", *options, cwd=tmp_path)
    command = [sys.executable, "-c", SERVER, tmp_path / "exported", *(tmp_path / "images" / name for name in FILES)]
    served = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answers = json.loads(served.stdout.splitlines()[-1])
    assert (
        answers["names"] == NAMES
        and answers["rows"] == ["masks", "sizes"]
        and answers["sizes"] == list(map(list, SIZES))
    )
    for (name, data), mask, (height, width) in zip(FILES.items(), answers["masks"], SIZES, strict=True):
        mask = np.array(mask)[:height, :width]
        written = palette.read((tmp_path / "masks" / name).with_suffix(".png"))
        assert (mask == written).mean() > 0.999
        assert_best(mask, model, image_files.decode(data))
