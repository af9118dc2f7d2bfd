"""The protocol of Caltech-256 on a small archive in its layout."""

import csv
import json
import statistics
import subprocess
import sys

import pytest

from example import caltech256
from tests.archives import archive, caltech
from tests.demo.forked import run_main
from tests.scripts import ROOT, run_script

FINETUNE = "--resnet_size=10 --batch_size=2 --data_format=NHWC --image_size=32 --val_sizes=32 --val_crops=center"
FINETUNE = [*FINETUNE.split(), "--max_iter=2", "--lr=0.1"]


def run_finetune(arguments):
    done = run_script("finetune.py", *arguments)
    print(done.stdout)
    return done.returncode


@pytest.mark.slow
def test_mean_and_spread_over_splits(tmp_path):
    (tmp_path / "256_ObjectCategories.tar").write_bytes(archive(caltech()))
    own = dict(archive=f"{tmp_path}/256_ObjectCategories.tar", output_dir=f"{tmp_path}/out")
    output = run_main(
        lambda _: caltech256.main(FINETUNE),
        tmp_path,
        (caltech256, "run_finetune", run_finetune),
        **own,
        counts=["2", "4"],
        splits=2,
    )
    assert "8 records (single labels)" in output and "4 images a class, split 1235" in output
    with open(tmp_path / "out/table.tsv", newline="") as file:
        rows = {(row["train_per_class"], row["metric"]): row for row in csv.DictReader(file, delimiter="\t")}
    assert set(rows) == {(count, name) for count in ("2", "4") for name in ("top_1", "top_5", "class_mean")}
    for (count, name), row in rows.items():
        written = [json.loads((tmp_path / f"out/{count}-{seed}/validation.json").read_text()) for seed in (1234, 1235)]
        values = [one["metrics"]["32, center"][name] for one in written]
        assert row["splits"] == "2"
        assert float(row["mean"]) == pytest.approx(statistics.mean(values), abs=1e-4)
        assert float(row["standard deviation"]) == pytest.approx(statistics.stdev(values), abs=1e-4)
    assert not list(tmp_path.rglob("*.tfrecords"))
    # The same as a command line: nothing is done twice.
    command = [sys.executable, "example/caltech256.py", *(f"--{name}={value}" for name, value in own.items())]
    command += ["--counts=2,4", "--splits=2"]
    again = subprocess.run([*command, "--", *FINETUNE], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "images a class, split" not in again.stdout, again.stderr
    # Others are refused: what is there would be taken for theirs.
    other = subprocess.run([*command, "--", *FINETUNE, "--lr=1"], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode == 1 and "is of a run with other arguments" in other.stderr
