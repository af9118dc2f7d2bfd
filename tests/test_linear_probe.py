"""linear_probe.py: its classifiers on features whose classes are known, and as a user runs it."""

import json
from pathlib import Path
import subprocess
import sys

import h5py
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

import linear_probe

ROOT = Path(__file__).parents[1]


def clusters(classes=4, images=30, spread=0.4, seed=0):
    """Features around a direction for each class; the first number is large and says nothing."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 12))
    labels = np.arange(classes).repeat(images)
    features = centres[labels] + spread * random.normal(size=(len(labels), 12))
    return features.astype(np.float32), labels


@pytest.mark.parametrize("probe", list(linear_probe.PROBES))
def test_learns_what_can_be_learnt_and_nothing_else(probe):
    features, labels = clusters(spread=0.3)
    judged = linear_probe.evaluate(features, labels, probe, 10, seed=1)
    assert judged["accuracy"] > 0.95 and judged["class_mean"] > 0.95
    assert judged["chosen"] in linear_probe.PROBES[probe][0]
    assert judged == linear_probe.evaluate(features, labels, probe, 10, seed=1)
    # On features that tell nothing the answers are right by chance, a quarter: nothing leaks from the test images.
    random = np.random.default_rng(2)
    judged = linear_probe.evaluate(random.normal(size=features.shape), labels, probe, 10, seed=1)
    assert judged["accuracy"] < 0.45


def test_is_near_another_linear_classifier():
    features, labels = clusters(spread=1.2, images=60)
    train, test = linear_probe.split(labels, 20, 0.2, seed=3)
    reference = RidgeClassifier().fit(features[train], labels[train]).score(features[test], labels[test])
    assert 0.6 < reference < 0.97
    for probe in ("logistic", "svm"):
        assert abs(linear_probe.evaluate(features, labels, probe, 20, seed=3)["accuracy"] - reference) < 0.08


def test_what_scales_is_learnt_from_the_training_images_alone():
    """Other test images, far away, do not change what is answered for a test image."""
    features, labels = clusters()
    train, test = linear_probe.split(labels, 10, 0.2, seed=0)
    classifier = linear_probe.PROBES["logistic"][1](0.01, 0)
    answers = linear_probe._predict(features, labels, train, test[:5], classifier)
    features[test[5:]] *= 1000
    features[test[5:], 0] += 1000
    np.testing.assert_array_equal(linear_probe._predict(features, labels, train, test, classifier)[:5], answers)


def test_classes_with_few_images():
    features, labels = clusters(images=3)
    for probe in linear_probe.PROBES:
        assert 0 <= linear_probe.evaluate(features, labels, probe, 1, seed=0)["accuracy"] <= 1


def write(path, names, labels, features):
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), labels=np.array(labels), features=features)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["names"], file["labels"], file["features"] = names, labels, features
    else:
        rows = zip(names, labels, features, strict=True)
        path.write_text("".join(f"{n}\t{k}\t{' '.join(map(repr, map(float, f)))}\n" for n, k, f in rows))


@pytest.mark.parametrize("ending", [".npz", ".h5", ".txt", ".tsv"])
def test_reads_what_extract_feature_writes(tmp_path, ending):
    features, _ = clusters(classes=2, images=2)
    names = ["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]
    write(tmp_path / f"f{ending}", names, ["", "", "", "other"], features)
    found, classes = linear_probe.read(str(tmp_path / f"f{ending}"))
    np.testing.assert_allclose(found, features, rtol=1e-6)
    assert found.dtype == np.float32 and classes.tolist() == ["a", "b", "b", "other"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x/1.jpg\t\t1 2\nx/2.jpg\t\t1\n", "a.txt: no features of extract_feature.py"),
        ("a.txt", "no tabs\n", "no features of extract_feature.py"),
        ("a.csv", "", "it ends in none of .npz, .h5, .tsv, .txt"),
        ("a.npz", "no zip", "no features of extract_feature.py"),
        ("a.h5", "no hdf5", "a.h5: no features of extract_feature.py"),
        ("a.txt", "1.jpg\t\t1 2\n", "1.jpg has neither a label nor a folder that would be its class"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        linear_probe.read(str(tmp_path / name))


def test_as_a_user_runs_it(tmp_path):
    features, labels = clusters(classes=3, images=12)
    write(tmp_path / "f.npz", [f"class {k}/{n}.jpg" for n, k in enumerate(labels)], [""] * len(labels), features)
    command = [sys.executable, "linear_probe.py", f"--features={tmp_path}/f.npz", "--train_per_class=2,6", "--splits=2"]
    done = subprocess.run([*command, f"--result={tmp_path}/probe.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "36 images of 3 classes, 12 numbers each" in done.stdout
    results = json.loads((tmp_path / "probe.json").read_text())["results"]
    assert [(row["probe"], row["train_per_class"]) for row in results] == [
        (probe, count) for count in (2, 6) for probe in ("logistic", "svm", "knn")
    ]
    for row in results:
        accuracies = [split["accuracy"] for split in row["splits"]]
        shown = f"{np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f}"
        assert [line for line in done.stdout.splitlines() if line.startswith(row["probe"]) and shown in line]
    done = subprocess.run([*command, "--train_per_class=x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "--train_per_class: 'x' is no number of images" in done.stderr
