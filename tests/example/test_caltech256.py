"""The protocol of Caltech-256 on a small archive in its layout."""

import csv
import json
from pathlib import Path
import statistics
import subprocess
import sys

import pytest

from tests.archives import archive, caltech

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_mean_and_spread_over_splits(tmp_path):
    (tmp_path / "256_ObjectCategories.tar").write_bytes(archive(caltech()))
    command = [sys.executable, "example/caltech256.py", f"--archive={tmp_path}/256_ObjectCategories.tar"]
    command += [
        f"--output_dir={tmp_path}/out",
        "--counts=2,4",
        "--splits=2",
        "--",
        "--resnet_size=10",
        "--batch_size=2",
    ]
    command += [
        "--data_format=NHWC",
        "--image_size=32",
        "--val_sizes=32",
        "--val_crops=center",
        "--max_iter=2",
        "--lr=0.1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "8 records (single labels)" in done.stdout and "4 images a class, split 1235" in done.stdout
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = {(row["train_per_class"], row["measure"]): row for row in csv.DictReader(file, delimiter="\t")}
    assert set(rows) == {(count, name) for count in ("2", "4") for name in ("top_1", "top_5", "class_mean")}
    for (count, name), row in rows.items():
        found = [json.loads((tmp_path / f"out/{count}-{seed}/validation.json").read_text()) for seed in (1234, 1235)]
        values = [one["metrics"]["32, center"][name] for one in found]
        assert row["splits"] == "2"
        assert float(row["mean"]) == pytest.approx(statistics.mean(values), abs=1e-4)
        assert float(row["standard deviation"]) == pytest.approx(statistics.stdev(values), abs=1e-4)
    assert not list(tmp_path.rglob("*.tfrecords"))
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "images a class, split" not in again.stdout  # nothing is done twice
