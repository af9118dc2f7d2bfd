"""The script that makes the records of a single-label dataset, run."""

import subprocess
import sys

from tests.class_folders import class_folders
from tests.scripts import ROOT, run_script


def test_as_a_user_runs_it(tmp_path):
    source = class_folders(tmp_path / "source")
    script = ROOT / "data_processing" / "build_classification.py"
    command = [sys.executable, script, f"--output_dir={tmp_path}/out", f"--dataset=folder:{source}", "--val_share=0.5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/out: 3 classes, 9 images to train, 9 to validate" in done.stdout


def test_records_are_of_one_split(tmp_path):
    options = [f"--output_dir={tmp_path}/out", f"--dataset=folder:{tmp_path}", "--train_per_class=3,5"]
    done = run_script("data_processing/build_classification.py", *options, status=1)
    assert done.stderr.endswith("error: --train_per_class=3,5: one number is needed here\n")
