"""The exported detector: encoded images in, objects out, as object_detection.py finds them in files."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from data_processing.images import image_files
import export
from models import checkpoint
from tasks.detection_inference import Sides
from tests import detector_worlds
from tests.detector_worlds import LONG, NAMES, PROPOSALS, SHORT, assert_same
from tests.encoded_images import encoded
from tests.scripts import run_script

SIZES = [(64, 96), (80, 60), (90, 200)]
PICTURES = [Image.fromarray(detector_worlds.pixels(height, width, seed=height)) for height, width in SIZES]
FILES = {
    "0.png": encoded(PICTURES[0], "PNG"),
    "1.jpg": encoded(PICTURES[1], "JPEG", quality=95, subsampling=0),
    "2.bmp": encoded(PICTURES[2], "BMP"),
}
# What a server does that has nothing of ours: it loads, and asks for the files on its command line.
SERVER = """
import json, sys
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answers = served(image=tf.constant([open(path, "rb").read() for path in sys.argv[2:]]))
names = [[name.decode() for name in row] for row in answers.pop("names").numpy()]
print(json.dumps({name: value.numpy().tolist() for name, value in answers.items()} | {"names": names}))
"""


@pytest.fixture(scope="module")
def finder():
    detector = detector_worlds.detector()
    return detector, export.ObjectFinder(detector, NAMES, Sides(SHORT, LONG, ""), 0.3)


def answers_of(served, files):
    return {name: value.numpy() for name, value in served.serve(tf.constant(files, tf.string)).items()}


def row(answers, k):
    count = answers["counts"][k]
    return tuple(answers[name][k][:count] for name in ("boxes", "scores", "classes"))


def test_objects_of_images_of_different_sizes_and_formats(finder):
    """Those of NumPy's preprocessing, from the threshold on; what is not there is 0, "" and -1."""
    detector, served = finder
    answers = answers_of(served, [*FILES.values()])
    assert {name: value.shape for name, value in answers.items()} == {
        "boxes": (3, 100, 4),
        "scores": (3, 100),
        "classes": (3, 100),
        "names": (3, 100),
        "counts": (3,),
    }
    for k, data in enumerate(FILES.values()):
        boxes, scores, classes = detector_worlds.found_in(detector, image_files.decode(data))
        kept = scores >= 0.3
        assert_same(row(answers, k), (boxes[kept], scores[kept], classes[kept]))
        count = answers["counts"][k]
        assert 0 < count < 100 and not answers["boxes"][k, count:].any() and not answers["scores"][k, count:].any()
        assert (answers["classes"][k, count:] == -1).all() and (answers["names"][k, count:] == b"").all()
        named = [name.decode() for name in answers["names"][k, :count]]
        assert named == [NAMES[index] for index in answers["classes"][k, :count]]


def test_no_image_depends_on_its_batch(finder):
    _, served = finder
    together = answers_of(served, [*FILES.values()])
    for k, data in enumerate(FILES.values()):
        alone = answers_of(served, [data])
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], together[name][k], err_msg=name)


def test_an_empty_batch_and_what_is_no_image(finder):
    _, served = finder
    answers = answers_of(served, [])
    assert answers["boxes"].shape == (0, 100, 4) and answers["names"].shape == (0, 100)
    assert answers["counts"].shape == (0,)
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither JPEG, PNG, GIF nor BMP"):
        served.serve(tf.constant([b"<html>" + bytes(40)]))


def test_the_script_and_a_server_that_has_nothing_of_ours(tmp_path):
    detector_worlds.save(tmp_path / "detector")
    (tmp_path / "images").mkdir()
    for name, data in FILES.items():
        (tmp_path / "images" / name).write_bytes(data)
    options = ["--model_dir=detector", f"--proposals={PROPOSALS}"]
    done = run_script("export.py", *options, "--output_dir=exported", cwd=tmp_path)
    assert done.stdout == (
        "written: exported, Faster R-CNN on ResNet-10, 3 classes, short side 64, long side at most 110 pixels (as it "
        f"was trained), {PROPOSALS} proposals, score >= 0\n"
    )
    run_script("object_detection.py", *options, "--images=images", "--data_format=NHWC", cwd=tmp_path)
    rows = json.loads((tmp_path / "detections.json").read_text())
    command = [sys.executable, "-c", SERVER, tmp_path / "exported", *(tmp_path / "images" / name for name in FILES)]
    served = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answers = {name: np.array(value) for name, value in json.loads(served.stdout.splitlines()[-1]).items()}
    for k, name in enumerate(FILES):
        of_image = [found for found in rows if found["file_name"] == f"images/{name}"]
        boxes = np.array([found["bbox"] for found in of_image])
        boxes[:, 2:] += boxes[:, :2]
        expected = [found["score"] for found in of_image], [found["category_id"] - 1 for found in of_image]
        assert_same(row(answers, k), (boxes, *expected))
        for index, named in zip(answers["classes"][k], answers["names"][k], strict=True):
            assert named == (NAMES[index] if index >= 0 else "")


@pytest.mark.slow
def test_a_detector_without_names_and_flags_of_its_own(tmp_path):
    variables = checkpoint.model_variables(detector_worlds.detector().model)
    checkpoint.save(tmp_path / "silent", 1, variables, 1, checkpoint.Metadata("boxes", anchors="16,32"))
    done = run_script(
        "export.py",
        *"--model_dir=silent --output_dir=two --image_size=48 --threshold=0.9 --proposals=9".split(),
        cwd=tmp_path,
    )
    assert "short side 48, long side at most 80 pixels (--image_size), 9 proposals, score >= 0.9" in done.stdout
    assert "no names, only indices: silent/model.ckpt-1 holds none; give them with --dictionary\n" in done.stdout
