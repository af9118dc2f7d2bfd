"""One of the processes that benchmarks/scaling.py metrics, "allreduce" or "step"; the first one writes what it saw:

    mpirun -np 2 python benchmarks/scaling_worker.py result.json allreduce

Sizes, batches and the number of turns are constants here.
"""

import json
import os
from pathlib import Path
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import distributed  # noqa: E402
from losses.multi_label import WeightedSigmoidLoss  # noqa: E402
from models import checkpoint  # noqa: E402
from models.resnet import build_resnet  # noqa: E402
from training.train_step import make_train_step  # noqa: E402

SIZES = [2**k for k in range(12, 27, 2)]  # bytes: 4 KB to 64 MB
TURNS = 9
RESNET, CLASSES, BATCH, PIXELS = 50, 1000, 8, 128


def main(result, part):
    distributed.ELASTIC = True  # so that one process, too, goes through Horovod
    ranks = distributed.start()
    measured = {"allreduce": allreduce, "step": step}[part]()
    if ranks.rank == 0:
        Path(result).write_text(json.dumps(measured))


def allreduce():
    """Seconds to average one tensor, as pairs of its bytes and a list of times."""
    found = []
    for size in SIZES:
        tensor = tf.ones([size // 4])
        average = tf.function(lambda tensor=tensor: distributed.average([tf.identity(tensor)])[0])
        found.append((size, timed([average])[0]))
    return found


def step():
    """Seconds of a training step that shares gradients, of one that does not, and of sharing alone, by turns."""
    model = build_resnet(RESNET, CLASSES)
    weights = checkpoint.model_variables(model)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(-1, 1, [BATCH, PIXELS, PIXELS, 3]).astype(np.float32))
    labels = tf.constant((rng.random([BATCH, CLASSES]) < 0.01).astype(np.float32))
    options = dict(weight_decay=1e-4, momentum=0.9)
    alone, _ = make_train_step(model, weights, WeightedSigmoidLoss(CLASSES), **options)
    loss = WeightedSigmoidLoss(CLASSES, any_rank=distributed.any_rank)
    together, _ = make_train_step(model, weights, loss, average=distributed.average, **options)
    gradients = [tf.zeros_like(v.value) for v in weights.values() if v.trainable]
    sharing = tf.function(lambda: distributed.average([tf.identity(gradient) for gradient in gradients]))
    rate = tf.constant(0.0)
    calls = [lambda: together(images, labels, rate), lambda: alone(images, labels, rate), sharing]
    return dict(zip(("together", "alone", "sharing"), timed(calls), strict=True))


def timed(calls):
    """Lists of seconds, one a function of `calls`: run by turns, TURNS times after a first, all processes at once."""
    seconds = [[] for _ in calls]
    for turn in range(TURNS + 1):
        for k, call in enumerate(calls):
            distributed.gather(None)
            began = time.perf_counter()
            tf.nest.map_structure(lambda value: value.numpy(), call())
            if turn:
                seconds[k].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
