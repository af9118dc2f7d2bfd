"""One of the processes that benchmarks/scaling.py measures, "allreduce" and "step"; the first writes the seconds:

    mpirun -np 2 python benchmarks/scaling_worker.py result.json allreduce,step ROUNDS RESNET_SIZE

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
from losses.weighted import WeightedSigmoidLoss
from models.resnet import build_resnet
from tasks.classification import Classification
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

SIZES = [2**k for k in range(12, 27, 2)]  # bytes: 4 KB to 64 MB
CLASSES, BATCH, PIXELS = 1000, 8, 128


def main(result, parts, rounds, resnet_size):
    distributed.ELASTIC = True  # so that one process, too, goes through Horovod
    ranks = distributed.start()
    times = {}
    for part in parts.split(","):
        times[part] = allreduce(int(rounds)) if part == "allreduce" else step(int(rounds), int(resnet_size))
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
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, [BATCH, PIXELS, PIXELS, 3]).astype(np.float32)
    labels = (rng.random([BATCH, CLASSES]) < 0.01).astype(np.float32)
    batch = {"image": tf.constant(images), "label": tf.constant(labels)}
    alone, _ = _make_step(model, tf.identity, list)
    together, state = _make_step(model, distributed.any_rank, distributed.average)
    gradients = [tf.zeros_like(v) for v in state.trainable.values()]
    sharing = tf.function(lambda: distributed.average([tf.identity(gradient) for gradient in gradients]))
    rate = tf.constant(0.0)
    ways = {
        "together": lambda: together(batch, rate),
        "alone": lambda: alone(batch, rate),
        "sharing": sharing,
    }
    return timed(ways, rounds)


def _make_step(model, any_rank, average):
    task = Classification(model, "sparse", loss=WeightedSigmoidLoss(CLASSES, any_rank=any_rank))
    state = TrainState(task)
    return make_train_step(task, state, StepConfig(weight_decay=1e-4), average=average), state


def timed(ways, rounds):
    """Seconds of the functions `ways`, by name, as `in_rounds`: all processes at once."""

    def begin_together(function):
        distributed.gather(None)
        return seconds(lambda: tf.nest.map_structure(lambda value: value.numpy(), function()))

    return in_rounds({name: lambda way=way: begin_together(way) for name, way in ways.items()}, rounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
