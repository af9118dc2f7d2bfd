"""The loss's share of a training step at 11,166 classes, on the device that TensorFlow finds.

    python benchmarks/loss.py --batch_size=32 --precision=bfloat16

A whole step of ResNet-101, and the loss with its gradient for the logits alone, compiled by itself, are timed in
rounds on batches of the same size. The loss's work grows with the batch as the network's does, but the classes' weights
are counted once a batch: a small batch is the worse case.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use

use("data_format precision batch_norm_decay batch_norm_epsilon weight_decay visiable_gpu xla")
script(
    __name__,
    __doc__,
    first="rounds batch_size class_num resnet_size image_size",
    defaults={"class_num": 11166, "batch_size": 4, "rounds": 7},
)

import numpy as np
import tensorflow as tf

from benchmarks.rounds import in_rounds, seconds
from losses.weighted import WeightedSigmoidLoss
from models.resnet import NetworkConfig, build_resnet, resolve_data_format
from tasks.classification import Classification
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

LABELS = 9  # of an image
LOSSES = 50  # in one round


def main(argv):
    del argv
    rng = np.random.default_rng(0)
    labels = np.zeros([FLAGS.batch_size, FLAGS.class_num], np.float32)
    for row in labels:
        row[rng.choice(FLAGS.class_num, LABELS, replace=False)] = 1
    logits = tf.constant(rng.normal(size=labels.shape).astype(np.float32))
    images = rng.uniform(-1, 1, [FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3])
    batch = {"image": tf.constant(images.astype(np.float32)), "label": tf.constant(labels)}
    step = training_step()
    loss = loss_and_gradient()
    ways = {
        "step": lambda: seconds(lambda: step(batch, tf.constant(0.01))["loss"].numpy()),
        "loss": lambda: seconds(lambda: loss(batch, logits).numpy(), LOSSES),
    }
    times = in_rounds(ways, FLAGS.rounds)  # the warm-up compiles
    steps, losses = np.array(times["step"]), np.array(times["loss"])
    print(
        f"ResNet-{FLAGS.resnet_size}, {FLAGS.class_num:,} classes, {FLAGS.image_size} px, batch {FLAGS.batch_size}, "
        f"{FLAGS.precision}; median of {FLAGS.rounds} rounds of a step and {LOSSES} times the loss"
    )
    for name, values in (("whole step", steps * 1000), ("loss and gradient", losses * 1000)):
        print(f"  {name:<18} {np.median(values):9.2f} ms ({values.min():.2f} to {values.max():.2f})")
    print(f"  loss / step: {np.median(losses / steps):.2%}")


def training_step():
    network = config(NetworkConfig, data_format=resolve_data_format(FLAGS.data_format))
    model = build_resnet(FLAGS.resnet_size, FLAGS.class_num, network)
    task = Classification(model, "sparse", loss=WeightedSigmoidLoss(FLAGS.class_num))
    return make_train_step(task, TrainState(task, FLAGS.precision), StepConfig(FLAGS.weight_decay, xla=FLAGS.xla))


def loss_and_gradient():
    loss = WeightedSigmoidLoss(FLAGS.class_num)

    @tf.function(jit_compile=FLAGS.xla)
    def function(batch, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(batch, {"logits": logits}, loss.count(batch, tf.constant(0, tf.int64)))
        return value, tape.gradient(value, logits)

    return lambda batch, logits: function(batch, logits)[1]


if __name__ == "__main__":
    run(main)
