"""train.py killed again and again: what it ends with is what it would have ended with."""

import os
import random
import subprocess
import time

import numpy as np
import pytest

from models import checkpoint
from tests.helpers import tensors, train_flags
from tests.scripts import run_script

KILLS = 20
# One thread, since several add up in any order.
ENVIRONMENT = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.mark.slow
def test_killed_at_any_moment_the_weights_are_those_of_an_undisturbed_run(records, tmp_path):
    """SIGKILL at the start, in a step, while saving, which it does after each step.

    That is after 0.6 to 1.6 times what a run of one step takes here, however busy the machine is.
    """
    options = ["--snapshot=1", "--max_to_keep=2", "--ema_decay=0.9", "--rotated=0.25", "--color_jitter=0.5"]
    for step in (1, 2):  # the second resumes, as those do that are killed
        began = time.monotonic()
        run_script(
            "train.py", *train_flags(records, tmp_path / "timed", *options, f"--max_iter={step}"), env=ENVIRONMENT
        )
        seconds = time.monotonic() - began
    moments = random.Random(0)
    folder, seen = tmp_path / "killed/checkpoint", []
    for _ in range(KILLS):
        flags = train_flags(records, tmp_path / "killed", *options, "--max_iter=100000")
        with pytest.raises(subprocess.TimeoutExpired):
            run_script("train.py", *flags, env=ENVIRONMENT, timeout=seconds * moments.uniform(0.6, 1.6))
        newest = checkpoint.newest(folder)
        seen.append(int(newest.rpartition("-")[2]) if newest else 0)
    assert seen == sorted(seen) and len(set(seen)) > KILLS / 4, seen
    last = seen[-1] + 3
    for name, more in (("killed", []), ("whole", ["--snapshot=0"])):
        flags = train_flags(records, tmp_path / name, *options, f"--max_iter={last}", *more)
        run_script("train.py", *flags, env=ENVIRONMENT)
    killed, whole = (tensors(tmp_path / f"{name}/checkpoint/model.ckpt-{last}") for name in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(killed[name], value, err_msg=name)
    left = {path.name.split("-")[0] for path in folder.iterdir()}
    assert left == {".lock", "checkpoint", "model.ckpt", "settings.json"}
    assert len(list(folder.glob("*.index"))) == 2
