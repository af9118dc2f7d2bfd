"""The launch scripts, each as far as one machine goes."""

import os
from pathlib import Path
import re
import signal
import subprocess
import sys

from tests.helpers import CLASSES, ENVIRONMENT, ROOT

VENV = Path(sys.executable).parents[1]


LAUNCHING = ENVIRONMENT | {"VENV": str(VENV), "MPIRUN_FLAGS": "--oversubscribe"}


def launch(script, *args, status=0, **variables):
    command, options = [ROOT / "example" / script, *args], dict(capture_output=True, text=True, timeout=300)
    done = subprocess.run(command, cwd=ROOT, env=LAUNCHING | variables, **options)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stdout if status == 0 else done.stderr


def test_recipe_of_128_gpus(records):
    output = launch("ml_images_128_gpus.sh", f"--data_dir={records}", "--num_gpus=128", "--dry_run", HOSTS="localhost")
    assert "batch 4,096 = 128 processes x 32" in output and "258,000 steps" in output
    boundaries = re.findall(r"^ +([\d,]+) +[\d.]+ +([\d.]+)$", output, re.M)
    # DESIGN section 6: 0.01 x 1.297 an epoch for 8 epochs, 0.08, a tenth after each 25 epochs.
    assert [float(rate) for _, rate in boundaries[:8]] == [float(f"{0.01 * 1.297**k:.6g}") for k in range(8)]
    assert boundaries[8:] == [("34,400", "0.08"), ("107,501", "0.008"), ("215,001", "0.0008")]


def test_slurm_job_trains_on_its_machines_and_resumes_in_another(records, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"""#!/bin/sh
case "$*" in "show hostnames node[1]") echo localhost ;; *) echo "$@" >> {tmp_path}/told ;; esac
""")
    scontrol.chmod(0o755)
    slurm = {"SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_NODELIST": "node[1]", "SLURM_SUBMIT_DIR": str(ROOT)}
    flags = dict(data_dir=records, model_dir=tmp_path / "checkpoint", log_dir=tmp_path / "log", class_num=CLASSES)
    flags |= dict(resnet_size=10, image_size=32, batch_size=4, data_format="NHWC", lr=0.001, log_interval=2)
    job = subprocess.Popen(
        [ROOT / "example/slurm.sbatch", *(f"--{name}={value}" for name, value in flags.items())],
        stdout=subprocess.PIPE,
        text=True,
        env=LAUNCHING | slurm | {"SLURM_JOB_ID": "17", "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"},
    )
    lines = []
    for line in job.stdout:
        lines.append(line)
        if line.startswith("step 2 "):
            job.send_signal(signal.SIGTERM)
    output = "".join(lines)
    assert job.wait() == 0 and "batch 8 = 2 processes x 4" in output
    assert re.search(r"asked to stop after step (\d+);.*\nstep \1: saved", output)
    assert (tmp_path / "told").read_text() == "requeue 17\n"


def test_what_is_missing_is_said():
    assert "no GPU found" in launch("one_machine.sh", status=1, PATH=os.environ["PATH"])
    assert "say where, as in HOSTS=" in launch("many_machines.sh", status=1)
    assert "run `make horovod` first" in launch("one_machine.sh", status=1, PROCESSES="2", VENV="/nowhere")
