"""Evaluation, features and names by two processes, started by the real mpirun, against one process."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data_processing.lists import dictionary
from models import checkpoint
from models.resnet import build_resnet
from tests.helpers import (
    CLASSES,
    MPIRUN,
    RECORDS,
    jpeg,
    mpirun,
    python,
    run,
)
from tests.scripts import run_script


@pytest.fixture(scope="module")
def random_network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save(folder, 1, checkpoint.model_variables(build_resnet(10, CLASSES)), 1)
    return folder


def test_evaluation_by_two_processes_is_that_of_one(records, random_network, tmp_path):
    def evaluate(folder):
        options = dict(data_dir=records, model_dir=random_network, image_size=32, batch_size=4, data_format="NHWC")
        return ["evaluate.py", *(f"--{name}={value}" for name, value in options.items()), f"--result={folder}"]

    run_script(*evaluate(tmp_path / "one"))
    mpirun(2, python(*evaluate(tmp_path / "two")))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text())["metrics"] for name in ("one", "two"))
    assert one == pytest.approx(two, rel=1e-6) and one["images"] == RECORDS


def test_features_by_two_processes_are_those_of_one(random_network, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(11):
        image = tf.io.encode_jpeg(rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)).numpy()
        (tmp_path / f"{k}.jpg").write_bytes(image if k != 6 else image[:50])

    def extract(result):
        options = dict(images=tmp_path, pretrain_ckpt=random_network, image_size=32, batch_size=2, data_format="NHWC")
        return ["extract_feature.py", *(f"--{k}={v}" for k, v in options.items()), f"--result={result}"]

    run_script(*extract(tmp_path / "one.npz"), status=1)
    two = run([*MPIRUN, "-np", "2", *python(*extract(tmp_path / "two.npz"))], status=1)
    assert "6.jpg" in two.stderr and "1 of 11 images could not be read" in two.stderr
    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert one["names"].tolist() == two["names"].tolist() and len(one["names"]) == 10
    np.testing.assert_allclose(one["features"], two["features"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_names_by_two_processes_are_those_of_one(random_network, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(7):
        (tmp_path / f"{k}.jpg").write_bytes(jpeg(k % CLASSES, rng))
    entries = [dictionary.Entry(k, f"n{k:08d}", -1, f"class {k}") for k in range(CLASSES)]
    dictionary.write(tmp_path / "dictionary.txt", entries)

    def classify(result):
        options = dict(images=tmp_path, model_dir=random_network, dictionary=tmp_path / "dictionary.txt", result=result)
        options |= dict(image_size=32, batch_size=2, data_format="NHWC")
        return ["image_classification.py", *(f"--{k}={v}" for k, v in options.items())]

    run_script(*classify(tmp_path / "one.txt"))
    assert "written: " in mpirun(2, python(*classify(tmp_path / "two.txt")))
    assert (tmp_path / "one.txt").read_text() == (tmp_path / "two.txt").read_text()
