"""What several tests share: small images, records and runs of train.py. Scripts run by tests/scripts.py."""

import io
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
from PIL import Image
import tensorflow as tf

from data_processing.records import schema, tfrecord
from tests.scripts import ROOT

CLASSES = 5
RECORDS = 30
STEPS = 12
# More processes than cores: they share cores, and give way while they wait.
MPIRUN = [Path(sys.executable).parent / "mpirun", *"--oversubscribe --bind-to none --mca mpi_yield_when_idle 1".split()]
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def run(args, status=0, **options):
    """Runs a true process in the repository's root: for launchers, signals and limits, and as the cold start."""
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=300, env=ENVIRONMENT, **options)
    assert done.returncode == status if status == 0 else done.returncode, done.stderr[-3000:]
    return done


def mpirun(processes, args, status=0):
    """Runs a command, as of `python`, as so many processes; returns what they print."""
    return run([*MPIRUN, "-np", str(processes), *args], status).stdout


def python(script, *args):
    """The command that runs a script in a true process."""
    return [sys.executable, script, *map(str, args)]


def jpeg(label, rng, enlarged=1):
    """An image whose colour tells its label, 48 x 40 pixels, or so many times that."""
    pixels = rng.integers(0, 100, (40, 48, 3)) + 155 * np.array([label & 1, label >> 1 & 1, label >> 2])
    image = Image.fromarray(pixels.astype(np.uint8))
    buffer = io.BytesIO()
    image.resize((48 * enlarged, 40 * enlarged)).save(buffer, "JPEG", progressive=enlarged > 1)
    return buffer.getvalue()


def write_shard(path, label_format="sparse", damaged=(), image=None):
    """One shard of RECORDS images, those in `damaged` truncated; or of one image again and again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    with open(path, "wb") as file:
        for k in range(RECORDS):
            encoded = image or jpeg(k % CLASSES, rng)
            encoded = encoded[:200] if k in damaged else encoded
            record = schema.encode(
                schema.Image(encoded, 48, 40, f"{k}.jpg"), [k % CLASSES], [1.0], label_format, CLASSES
            )
            file.write(tfrecord.frame(record))


def train_flags(records, out, *options):
    """Flags of train.py for STEPS steps of the tiny network on small images; `options` come last and win."""
    flags = dict(
        data_dir=records,
        model_dir=out / "checkpoint",
        log_dir=out / "log",
        class_num=CLASSES,
        resnet_size=10,
        image_size=32,
        batch_size=8,
        data_format="NHWC",
        lr=0.01,
        max_iter=STEPS,
        log_interval=4,
        test_interval=0,
        neg_select=0.5,
        rotated=0,
        color_jitter=0,  # so that colour tells the class, and 12 steps show learning
    )
    return [*(f"--{name}={value}" for name, value in flags.items()), *options]


def tensors(prefix):
    """All tensors of a checkpoint by name."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_tensors(actual, expected, rtol=1e-6, atol=1e-6):
    """That two checkpoints hold the same: what `tensors` returned of them."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert actual[name] == value, name
        else:
            np.testing.assert_allclose(actual[name], value, rtol=rtol, atol=atol, err_msg=name)


def fold_by_hand(scores, parents):
    """Scores [images, classes] in which each class lifts its parent, its parent's parent and so on."""
    folded = scores.copy()
    for k in range(len(parents)):
        above = parents[k]
        while above != -1:
            folded[:, above] = np.maximum(folded[:, above], scores[:, k])
            above = parents[above]
    return folded
