"""build_tfrecords.py in processes of its own, for several tests."""

import os
import subprocess
import sys

from tests.scripts import ROOT

CLASSES = 9


def start(image_paths, list_path, output, *args, environment=None):
    """Starts the script in a session of its own, so that its workers can be found."""
    command = [sys.executable, "data_processing/build_tfrecords.py", f"--images={image_paths}"]
    command += [f"--image_list={list_path}", f"--output_dir={output}", f"--class_num={CLASSES}", *args]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    return out, err


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
