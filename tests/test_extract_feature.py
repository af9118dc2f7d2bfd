"""extract_feature.py as a user runs it, against the network called directly on pixels that the test knows."""

import os
from pathlib import Path
import subprocess
import sys
from typing import NamedTuple

from absl.testing import flagsaver
import h5py
import numpy as np
from PIL import Image
import pytest

import extract_feature
from models import checkpoint
from models.resnet import build_resnet
from tests.scripts import ROOT, run_script

SIZE = 56  # short side 64: images of 64 pixels' height are not resized
WIDTH = 80
IMAGES = 7


class Run(NamedTuple):
    """A finished process and the folder that it ran in."""

    status: int
    stdout: str
    stderr: str
    folder: Path


def true_process(script, *args, cwd, status):
    """As `run_script`, but as a user's shell starts it."""
    del status
    return subprocess.run([sys.executable, ROOT / script, *args], cwd=cwd, capture_output=True, text=True, timeout=300)


def mosaic(seed):
    """Tiles of 8 x 8 pixels, RGB uint8 [64, WIDTH, 3]."""
    tiles = np.random.default_rng(seed).integers(0, 256, [8, WIDTH // 8, 3], dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)


def features_of(model, crops):
    """The network called directly on uint8 crops [n, SIZE, SIZE, 3]."""
    return model(np.asarray(crops, np.float32) / 127.5 - 1, training=False)["feature"].numpy()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, lists and two checkpoints: a ResNet-10 of 7 classes, and a ResNet-101 of 1000 as was published."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    for k in range(IMAGES):
        Image.fromarray(mosaic(k)).save(folder / "images" / f"{IMAGES - k}.png")
    (folder / "page.jpg").write_text("<html>")
    paths = [f"images/{IMAGES - k}.png" for k in range(IMAGES)]
    labelled = [f"{path}\tlabel {k}" if k % 2 else path for k, path in enumerate(paths)]
    (folder / "list.tsv").write_text("\n".join([*labelled[:2], "page.jpg\t9", *labelled[2:], "none.jpg"]) + "\n")
    (folder / "imglist.txt").write_text(f"{paths[0]} 3\n{paths[1]}\n")
    small, published = build_resnet(10, 7, seed=5), build_resnet(101, 1000, seed=6)
    checkpoint.save(folder / "small", 3, checkpoint.model_variables(small), 1)
    checkpoint.save(folder / "ckpts", 0, checkpoint.model_variables(published), 1)
    return {"folder": folder, "paths": paths, "model": small, "published": published}


@pytest.fixture(scope="module")
def runs(world):
    """The finished runs by name."""
    small = ["--pretrain_ckpt=small", f"--image_size={SIZE}", "--batch_size=3", "--data_format=NHWC"]
    published = "--resnet_size=101 --data_format=NCHW --visiable_gpu=0 --pretrain_ckpt=./ckpts --result=test.txt"
    options = {
        "published": [*published.split(), "--images=imglist.txt"],
        "list": [*small, "--images=list.tsv", "--result=new/list.npz"],
        "10crop": [*small, "--images=images", "--crop=10crop", "--result=ten.h5", "--resnet_size=10"],
        "resnet_size": [*small, "--images=images", "--result=no.txt", "--resnet_size=50"],
    }
    finished = {}
    for name, own in options.items():
        run = true_process if name == "list" else run_script
        done = run("extract_feature.py", *own, cwd=world["folder"], status=None)
        finished[name] = Run(done.returncode, done.stdout, done.stderr, world["folder"])
    return finished


def test_published_command_line(world, runs):
    """Images of 64 x 80 pixels are enlarged to 256 x 320 here, bilinear, as Pillow does it too."""
    run = runs["published"]
    assert run.status == 0, run.stderr
    assert "ResNet-101, step 0: 2048 numbers for each of 2" in run.stdout
    rows = [line.split("\t") for line in (run.folder / "test.txt").read_text().splitlines()]
    assert [row[:2] for row in rows] == [[world["paths"][0], "3"], [world["paths"][1], ""]]
    written = np.array([row[2].split(" ") for row in rows], np.float32)
    large = [Image.fromarray(mosaic(k)).resize((320, 256), Image.Resampling.BILINEAR) for k in (0, 1)]
    expected = features_of(world["published"], [np.asarray(image)[16:240, 48:272] for image in large])
    # The two programs may round a pixel differently, by one of 255.
    assert written.shape == (2, 2048)
    assert np.linalg.norm(written - expected) < 0.01 * np.linalg.norm(expected)


def test_order_names_labels_and_what_is_left_out(world, runs):
    run = runs["list"]
    assert run.status == 1
    with np.load(run.folder / "new" / "list.npz") as arrays:
        names, labels, features = (arrays[name] for name in ("names", "labels", "features"))
    assert names.tolist() == world["paths"]
    assert labels.tolist() == [f"label {k}" if k % 2 else "" for k in range(IMAGES)]
    expected = features_of(world["model"], [mosaic(k)[4:60, 12:68] for k in range(IMAGES)])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert "left out: page.jpg: HTML or XML, not an image" in run.stderr
    assert "left out: none.jpg: No such file or directory" in run.stderr
    assert run.stderr.splitlines()[-1] == "error: 2 of 9 images could not be read and were left out"
    assert "Traceback" not in run.stderr
    assert "written: new/list.npz, 7 features" in run.stdout
    assert os.listdir(run.folder / "new") == ["list.npz"]


def test_ten_crops_are_averaged(world, runs):
    run = runs["10crop"]
    assert run.status == 0, run.stderr
    with h5py.File(run.folder / "ten.h5") as file:
        names, features = file["names"].asstr()[:].tolist(), file["features"][:]
        assert file["labels"].asstr()[:].tolist() == [""] * IMAGES
    assert names == sorted(world["paths"])
    for name, feature in zip(names, features, strict=True):
        pixels = mosaic(world["paths"].index(name))
        corners = ((0, 0), (0, WIDTH - SIZE), (64 - SIZE, 0), (64 - SIZE, WIDTH - SIZE), (4, 12))
        cuts = [pixels[y : y + SIZE, x : x + SIZE] for y, x in corners]
        expected = features_of(world["model"], cuts + [np.fliplr(cut) for cut in cuts]).mean(0)
        np.testing.assert_allclose(feature, expected, rtol=1e-4, atol=1e-5)


def test_errors_are_one_line(runs):
    run = runs["resnet_size"]
    assert run.status == 1 and "Traceback" not in run.stderr
    message = run.stderr.splitlines()[-1]
    assert message.startswith("error: --resnet_size=50, but small/model.ckpt-3 has resnet_size 10")
    assert not (run.folder / "no.txt").exists()


def test_weights_that_are_not_finite_are_an_error(world, tmp_path):
    values = {name: variable.numpy() for name, variable in checkpoint.model_variables(world["model"]).items()}
    values["global_pool/bn/batch_normalization/gamma"][0] = np.inf
    checkpoint.save(tmp_path / "checkpoint", 1, values, 1)
    run = ["extract_feature.py", "--images=images", f"--pretrain_ckpt={tmp_path}/checkpoint", "--result=none.npz"]
    done = run_script(*run, cwd=world["folder"], status=1)
    assert "global_pool/bn/batch_normalization/gamma holds NaN or infinity" in done.stderr
    assert not (world["folder"] / "none.npz").exists() and "Traceback" not in done.stderr


def test_the_image_size_is_the_checkpoints(world, tmp_path, capsys):
    metadata = checkpoint.Metadata("softmax", image_size=SIZE)
    checkpoint.save(tmp_path / "checkpoint", 1, checkpoint.model_variables(world["model"]), 1, metadata)
    image = world["folder"] / world["paths"][0]
    extract_feature.FLAGS.mark_as_parsed()
    given = dict(images=str(image), result=str(tmp_path / "one.npz"), pretrain_ckpt=str(tmp_path / "checkpoint"))
    with flagsaver.as_parsed(**given):
        extract_feature.main([])
    assert f"from {SIZE} pixels (as it was trained)" in capsys.readouterr().out
    features = np.load(tmp_path / "one.npz")["features"]
    np.testing.assert_allclose(features, features_of(world["model"], [mosaic(0)[4:60, 12:68]]), rtol=1e-4, atol=1e-5)


def test_an_unknown_ending_is_an_error_before_any_work():
    extract_feature.FLAGS.mark_as_parsed()
    with flagsaver.as_parsed(images="no such folder", result="features.csv"):
        with pytest.raises(ValueError, match="--result=features.csv: .*ends in .tsv, .txt, .npz, .h5"):
            extract_feature.main([])
