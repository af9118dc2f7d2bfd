"""evaluate.py as a user runs it, on records and a checkpoint that the test writes, against scikit-learn."""

import csv
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_curve,
    precision_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from data_processing.lists import dictionary
from data_processing.records import schema, tfrecord
from evaluation import thresholds
from models import checkpoint
from models.resnet import build_resnet
from tests.scripts import ROOT, run_script

CLASSES = 6
IMAGES = 24
SIZE = 56


class Run(NamedTuple):
    """A finished process and its folder of results."""

    status: int
    stdout: str
    stderr: str
    result: Path


def true_process(script, *args, cwd, status):
    """As `run_script`, but as a user's shell starts it."""
    del status
    return subprocess.run([sys.executable, ROOT / script, *args], cwd=cwd, capture_output=True, text=True, timeout=300)


def make_image(rng):
    """A mosaic of 8 x 8 tiles, 64 x 64 pixels: the same pixels from every JPEG decoder, since all AC terms are 0."""
    tiles = rng.integers(0, 256, [8, 8, 3], dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tiles.repeat(8, axis=0).repeat(8, axis=1)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def write_shards(folder, images, labels, label_format):
    """Two shards; `labels` are a dictionary class -> confidence an image."""
    folder.mkdir(parents=True)
    for shard, part in enumerate(np.array_split(np.arange(len(images)), 2)):
        with open(folder / f"val-{shard:05d}-of-00002.tfrecords", "wb") as file:
            for k in part:
                image = schema.Image(images[k], 64, 64, f"{k}.jpg")
                record = schema.encode(image, list(labels[k]), list(labels[k].values()), label_format, CLASSES)
                file.write(tfrecord.frame(record))


def logits_of(model, images):
    """The centre crop of a 64 x 64 image needs no resizing."""
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)), np.float32)[4:60, 4:60] for image in images])
    return model(pixels / 127.5 - 1, training=False)["logits"].numpy()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A network of random weights, and images with labels that depend on its logits; class 5 has no positive."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    model = build_resnet(10, CLASSES, seed=3)
    images = [make_image(rng) for _ in range(IMAGES)]
    logits = logits_of(model, images)
    model.get_layer("logits").bias.assign(-logits.mean(0))
    logits = logits_of(model, images)
    positive = logits + rng.normal(0, logits.std(0), logits.shape) > 0
    positive[:, 5] = False
    positive[:, 0] |= ~positive.any(axis=1)  # a record has at least one label
    checkpoint.save(folder / "checkpoint", 17, checkpoint.model_variables(model), 1)
    entries = [dictionary.Entry(k, f"n{k:08d}", -1 if k == 0 else 0, f"thing {k}, Ding {k}") for k in range(CLASSES)]
    dictionary.write(folder / "dictionary.txt", entries)
    return {
        "folder": folder,
        "images": images,
        "logits": logits,
        "positive": positive,
        "single_labels": rng.integers(0, CLASSES, IMAGES).tolist(),
    }


@pytest.fixture(scope="module")
def runs(world):
    """The finished runs by name.

    Multi-label: 24 good records, with an unknown label in image 3, and one image that is truncated.
    """
    folder = world["folder"]
    labels = [{k: 0.5 for k in np.flatnonzero(row)} for row in world["positive"]]
    labels[3][4] = -1.0
    write_shards(folder / "records", [*world["images"], world["images"][0][:300]], [*labels, {0: 1.0}], "sparse")
    write_shards(folder / "single", world["images"], [{label: 1.0} for label in world["single_labels"]], "single")
    dictionary_flag = f"--dictionary={folder / 'dictionary.txt'}"
    options = {
        "multi": ["--data_dir=records", dictionary_flag, "--max_skipped=0.05", "--top_k_pred=2", "--class_num=6"],
        "too_many": ["--data_dir=records", "--ap_mode=binned"],
        "single": ["--data_dir=single", "--test_iter=3"],
        "class_num": ["--data_dir=records", "--class_num=7"],
    }
    always = ["--model_dir=checkpoint", f"--image_size={SIZE}", "--batch_size=7", "--data_format=NHWC"]
    finished = {}
    for name, own in options.items():
        result = folder / "results" / name
        run = true_process if name == "too_many" else run_script
        done = run("evaluate.py", *always, *own, f"--result={result}", cwd=folder, status=None)
        finished[name] = Run(done.returncode, done.stdout, done.stderr, result)
    return finished


def read_json(run):
    assert run.status == 0, run.stderr
    return json.loads((run.result / "metrics.json").read_text())


def test_metrics_agree_with_scikit_learn(world, runs):
    metrics = read_json(runs["multi"])["metrics"]
    logits, positive = world["logits"], world["positive"]
    known = np.ones_like(positive)
    known[3, 4] = False
    ap = [average_precision_score(positive[known[:, k], k], logits[known[:, k], k]) for k in range(5)]
    auc = [roc_auc_score(positive[known[:, k], k], logits[known[:, k], k]) for k in range(5)]
    assert metrics["images"] == IMAGES and metrics["classes_with_positives"] == 5
    assert metrics["macro_map"] == pytest.approx(np.mean(ap), abs=1e-9)
    assert metrics["macro_auc"] == pytest.approx(np.mean(auc), abs=1e-9)
    assert metrics["micro_ap"] == pytest.approx(average_precision_score(positive[known], logits[known]), abs=1e-9)
    predicted = (logits >= 0) & known
    assert metrics["precision_threshold"] == pytest.approx(
        precision_score(positive & known, predicted, average="samples", zero_division=0), abs=1e-9
    )
    table = [line.split("\t") for line in (runs["multi"].result / "per_class.tsv").read_text().splitlines()]
    assert table[0] == ["index", "wnid", "names", "positives", "known", "ap", "auc"]
    assert [row[0] for row in table[1:]] == list("012345")
    assert table[5][:3] == ["4", "n00000004", "thing 4, Ding 4"]
    assert [int(row[3]) for row in table[1:]] == list((positive & known).sum(0))
    assert [int(row[4]) for row in table[1:]] == list(known.sum(0))
    np.testing.assert_allclose([float(row[5]) for row in table[1:6]], ap, atol=1e-6)
    np.testing.assert_allclose([float(row[6]) for row in table[1:6]], auc, atol=1e-6)
    assert table[6][3:] == ["0", str(IMAGES), "", ""]


def test_what_the_user_sees(runs):
    run = runs["multi"]
    content = read_json(run)
    assert "ResNet-10, 6 classes, step 17" in run.stdout
    assert "56 pixels (--image_size)" in run.stdout
    assert "24 images, 1 corrupt left out; 5 of 6 classes have positives" in run.stdout
    assert "top 2, per image" in run.stdout and "p >= 0.5, overall" in run.stdout
    assert content["settings"]["step"] == 17 and content["settings"]["top_k"] == 2
    assert len(content["skipped"]) == 1 and "records/val-00001-of-00002.tfrecords, byte" in content["skipped"][0]
    assert content["skipped"][0] in run.stdout
    # The temporary files have gone, and the figure is one.
    figures = ("ap_vs_frequency", "calibration", "f1_by_threshold", "precision_recall")
    written = [*(f"{name}.png" for name in figures), "metrics.json", "per_class.tsv", "report.html"]
    assert sorted(path.name for path in run.result.iterdir()) == sorted(written)
    pixels = np.asarray(Image.open(run.result / "ap_vs_frequency.png").convert("L"))
    assert pixels.shape == (600, 960) and (pixels < 250).mean() > 0.01
    assert "thing 4, Ding 4" in (run.result / "report.html").read_text()


def test_too_many_corrupt_records_and_no_result(runs):
    run = runs["too_many"]
    assert run.status == 1
    assert "error: 1 of 25 records are corrupt, more than --max_skipped=0.01" in run.stderr
    assert "Traceback" not in run.stderr and not list(run.result.iterdir())


def test_single_label_records(world, runs):
    metrics = read_json(runs["single"])["metrics"]
    assert set(metrics) == {"images", "top_1", "top_5", "class_mean", "calibration_error"}
    assert metrics["images"] == 3 * 7
    labels, logits = world["single_labels"][:21], world["logits"][:21]
    expected = [top_k_accuracy_score(labels, logits, k=k, labels=range(CLASSES)) for k in (1, 5)]
    assert [metrics["top_1"], metrics["top_5"]] == pytest.approx(expected)
    assert metrics["class_mean"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(axis=1)))
    written = {path.name for path in runs["single"].result.iterdir()}
    assert written == {"metrics.json", "per_class.tsv", "classes.html"}
    with open(runs["single"].result / "per_class.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [int(row["images"]) for row in rows] == [labels.count(k) for k in range(CLASSES)]
    for k, row in enumerate(rows):
        of_class = np.array(labels) == k
        if of_class.any():
            assert float(row["accuracy"]) == pytest.approx((logits[of_class].argmax(1) == k).mean(), abs=1e-6)


def test_the_best_threshold_is_stored_beside_the_checkpoint(world, runs):
    """By the multi-label run, whose head is a sigmoid; it is the best there is."""
    run, metrics = runs["multi"], read_json(runs["multi"])["metrics"]
    stored = thresholds.read(world["folder"] / "checkpoint/model.ckpt-17")
    assert stored == (metrics["best_threshold"], metrics["best_f1"], "records")
    line = f"threshold {stored.threshold:.4f}, best for F1 ({stored.f1:.4f}), stored for predictions: checkpoint/model"
    assert line in run.stdout and "stored for" not in runs["single"].stdout
    known = np.ones_like(world["positive"])
    known[3, 4] = False
    positive, scores = world["positive"][known], 1 / (1 + np.exp(-world["logits"].astype(np.float64)))[known]
    precision, recall, _ = precision_recall_curve(positive, scores)
    assert stored.f1 == pytest.approx(np.max(2 * precision * recall / (precision + recall + 1e-12)), abs=1e-9)
    assert stored.f1 == pytest.approx(f1_score(positive, scores >= stored.threshold), abs=1e-9)


def test_classes_and_names_of_checkpoint_and_records(world, tmp_path):
    """The records' names decide whether they are of the checkpoint's classes; names come from either, or from none."""
    folder, names = world["folder"], "".join(f"{k}\tthing {k}\n" for k in range(CLASSES))
    model = checkpoint.model_variables(build_resnet(10, CLASSES))
    checkpoint.save(tmp_path / "named", 1, model, 1, checkpoint.Metadata("sigmoid", None, SIZE, names))
    prefix = checkpoint.save(tmp_path / "silent", 1, model, 1)
    shutil.copytree(folder / "records", tmp_path / "records")
    options = ["--data_dir=records", "--batch_size=7", "--data_format=NHWC", "--max_skipped=1", "--test_iter=1"]

    def run(model_dir, *own, status=0):
        return run_script("evaluate.py", *options, f"--model_dir={model_dir}", *own, cwd=tmp_path, status=status)

    done = run("named", "--result=one")
    assert f"{SIZE} pixels (as it was trained)" in done.stdout and "no names" not in done.stdout
    assert "3\t\tthing 3\t" in (tmp_path / "one/per_class.tsv").read_text()
    settings = json.loads((tmp_path / "one/metrics.json").read_text())["settings"]
    assert (settings["head"], settings["image_size"]) == ("sigmoid", SIZE) and "dictionary" not in settings
    done = run("named", "--head=softmax", status=1)
    assert "--head=softmax, but the checkpoint was trained with a sigmoid head" in done.stderr
    # A folder has the threshold's name: it cannot be written.
    os.mkdir(f"{prefix}.threshold.json")
    done = run("silent", f"--image_size={SIZE}")
    assert "no names, only indices" in done.stdout and ", not stored (" in done.stdout
    (tmp_path / "records/dictionary.txt").write_text(names.replace("thing 2", "other"))
    done = run("named", status=1)
    assert "class 2 is 'other' instead of 'thing 2'" in done.stderr and "records with" not in done.stderr
    assert "named/model.ckpt-1" in done.stderr and "dictionary.txt of the records in records" in done.stderr
    (tmp_path / "records/dictionary.txt").write_text(names[: names.index("5")])
    done = run("named", status=1)
    assert "records are of 5 classes, and named/model.ckpt-1 of 6" in done.stderr.replace("in records ", "")


def test_another_class_num_names_both(runs):
    run = runs["class_num"]
    assert run.status == 1
    assert "--class_num=7" in run.stderr and "class_num 6" in run.stderr and "Traceback" not in run.stderr
