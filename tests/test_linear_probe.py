"""linear_probe.py as a user runs it."""

import json
import sys

import numpy as np

from tests.helpers import run
from tests.scripts import run_script


def test_as_a_user_runs_it(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(3).repeat(12)
    features = random.normal(size=(3, 12))[labels] + 0.4 * random.normal(size=(36, 12))
    names = [f"class {k}/{n}.jpg" for n, k in enumerate(labels)]
    np.savez(tmp_path / "f.npz", names=names, labels=[""] * 36, features=features.astype(np.float32))
    command = ["linear_probe.py", f"--features={tmp_path}/f.npz", "--train_per_class=2,6", "--splits=2"]
    done = run([sys.executable, *command, f"--result={tmp_path}/probe.json"])
    assert "36 images of 3 classes, 12 numbers each" in done.stdout
    results = json.loads((tmp_path / "probe.json").read_text())["results"]
    assert [(row["probe"], row["train_per_class"]) for row in results] == [
        (probe, count) for count in (2, 6) for probe in ("logistic", "svm", "knn")
    ]
    for row in results:
        accuracies = [split["accuracy"] for split in row["splits"]]
        shown = f"{np.mean(accuracies):.4f} ± {np.std(accuracies, ddof=1):.4f}"
        assert [line for line in done.stdout.splitlines() if line.startswith(row["probe"]) and shown in line]
    done = run_script(*command, "--train_per_class=x", status=1)
    assert "--train_per_class: 'x' is no number of images" in done.stderr
