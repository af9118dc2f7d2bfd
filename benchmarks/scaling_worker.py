"""One of the processes that benchmarks/scaling.py measures, "allreduce" or "step"; the first one writes the seconds:

    mpirun -np 2 python benchmarks/scaling_worker.py result.json allreduce ROUNDS RESNET_SIZE

Sizes and batches are constants here.
"""

import json
import os
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf

from benchmarks.rounds import in_rounds, seconds
import distributed
from losses.multi_label import WeightedSigmoidLoss
from models import checkpoint
from models.resnet import build_resnet
from training.train_step import make_train_step

SIZES = [2**k for k in range(12, 27, 2)]  # bytes: 4 KB to 64 MB
CLASSES, BATCH, PIXELS = 1000, 8, 128


def main(result, part, rounds, resnet_size):
    distributed.ELASTIC = True  # so that one process, too, goes through Horovod
    ranks = distributed.start()
    times = allreduce(int(rounds)) if part == "allreduce" else step(int(rounds), int(resnet_size))
    if ranks.rank == 0:
        Path(result).write_text(json.dumps(times))


def allreduce(rounds):
    """Seconds to average one tensor, as pairs of its bytes and a list of times."""
    times = []
    for size in SIZES:
        tensor = tf.ones([size // 4])
        average = tf.function(lambda tensor=tensor: distributed.average([tf.identity(tensor)])[0])
        times.append((size, timed({"average": average}, rounds)["average"]))
    return times


def step(rounds, resnet_size):
    """Seconds of a training step that shares gradients, of one that does not, and of sharing alone, in rounds."""
    model = build_resnet(resnet_size, CLASSES)
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
    ways = {
        "together": lambda: together(images, labels, rate),
        "alone": lambda: alone(images, labels, rate),
        "sharing": sharing,
    }
    return timed(ways, rounds)


def timed(ways, rounds):
    """Seconds of the functions `ways`, by name, as `in_rounds`: all processes at once."""

    def begin_together(function):
        distributed.gather(None)
        return seconds(lambda: tf.nest.map_structure(lambda value: value.numpy(), function()))

    return in_rounds({name: lambda way=way: begin_together(way) for name, way in ways.items()}, rounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
