"""The script that makes the records of a single-label dataset, run."""

from pathlib import Path
import subprocess
import sys

from tests.class_folders import class_folders

ROOT = Path(__file__).parents[2]


def test_as_a_user_runs_it(tmp_path):
    source = class_folders(tmp_path / "source")
    script = ROOT / "data_processing" / "build_classification.py"
    command = [sys.executable, script, f"--output_dir={tmp_path}/out", f"--dataset=folder:{source}", "--val_share=0.5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/out: 3 classes, 9 images to train, 9 to validate" in done.stdout
