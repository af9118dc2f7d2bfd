"""A step of our training against one of Keras's own network by `model.fit`, and where its time goes.

    python benchmarks/train_step.py --resnet_size=101 --batch_size=32 --image_size=224 --precision=bfloat16

In rounds, on the same batch, in the same precision, of the same depth:
  forward    our network's forward pass in training, and the loss;
  backward   the same with the gradients: what it takes longer is the backward pass;
  ours       the whole step, `make_train_step`: what it takes longer is weight decay, momentum and the weights' change;
  keras      a step of `keras.applications.ResNet…V2` by `model.fit`, with SGD, momentum and weight decay.
The two networks have other strides, so that the multiply-adds of each are printed, too.
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
    defaults={"batch_size": 8, "image_size": 128, "rounds": 7},
)

import keras
import numpy as np
import tensorflow as tf

from benchmarks.rounds import in_rounds, seconds
from losses.single_label import SoftmaxLoss
from models.resnet import NetworkConfig, build_resnet, resolve_data_format
from tasks.classification import Classification
from training.plan import multiply_adds
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

STEPS = 3  # in one round
RATE, MOMENTUM = 0.01, 0.9
KERAS = {
    50: keras.applications.ResNet50V2,
    101: keras.applications.ResNet101V2,
    152: keras.applications.ResNet152V2,
}


def main(argv):
    del argv
    if FLAGS.resnet_size not in KERAS:
        raise ValueError(f"--resnet_size={FLAGS.resnet_size}: Keras has {', '.join(map(str, KERAS))}")
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, [FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3]).astype(np.float32)
    batch = {"image": tf.constant(images), "label": tf.constant(rng.integers(0, FLAGS.class_num, FLAGS.batch_size))}
    network = config(NetworkConfig, data_format=resolve_data_format(FLAGS.data_format))
    task = Classification(build_resnet(FLAGS.resnet_size, FLAGS.class_num, network), "single", loss=SoftmaxLoss())
    step = make_train_step(task, TrainState(task, FLAGS.precision), StepConfig(FLAGS.weight_decay, xla=FLAGS.xla))
    theirs = keras_network()
    ways = {
        **parts(task, batch),
        "ours": lambda: step(batch, tf.constant(RATE))["loss"].numpy(),
    }
    ways = {name: lambda way=way: seconds(way, STEPS) for name, way in ways.items()}
    times = in_rounds(ways | {"keras": lambda: seconds(fit(theirs, batch)) / STEPS}, FLAGS.rounds)
    report({name: np.array(values) for name, values in times.items()}, task.model, theirs)


def parts(task, batch):
    """Functions that compute a part of our step."""
    variables = [v.value for v in task.model.trainable_variables]
    weights, seed = task.loss.count(batch, tf.constant(0, tf.int64)), tf.constant([0, 0], tf.int64)

    def value():
        return task.loss(batch, task.forward(batch, training=True, seed=seed), weights)

    @tf.function(autograph=False, jit_compile=FLAGS.xla)
    def forward():
        return value()

    @tf.function(autograph=False, jit_compile=FLAGS.xla)
    def backward():
        with tf.GradientTape() as tape:
            found = value()
        return found, tape.gradient(found, variables)

    return {"forward": lambda: forward().numpy(), "backward": lambda: backward()[0].numpy()}


def keras_network():
    keras.config.set_dtype_policy("float32" if FLAGS.precision == "float32" else f"mixed_{FLAGS.precision}")
    shape = [FLAGS.image_size, FLAGS.image_size, 3]
    model = KERAS[FLAGS.resnet_size](
        weights=None, classes=FLAGS.class_num, classifier_activation=None, input_shape=shape
    )
    model.compile(
        keras.optimizers.SGD(RATE, MOMENTUM, weight_decay=FLAGS.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=FLAGS.xla,
    )
    return model


def fit(model, batch):
    """The function that trains STEPS steps; one epoch, since what begins and ends it is not done for each step."""
    batches = tf.data.Dataset.from_tensors((batch["image"], batch["label"])).repeat()
    return lambda: model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0)


def report(times, ours, theirs):
    """Prints the medians of {name: seconds [rounds]}, each also as a share of our step, and the ratio."""
    print(
        f"ResNet-{FLAGS.resnet_size}, {FLAGS.class_num:,} classes, {FLAGS.image_size} px, batch {FLAGS.batch_size}, "
        f"{FLAGS.precision}; median of {FLAGS.rounds} rounds of {STEPS} steps"
    )
    for name, values in times.items():
        share = np.median(values / times["ours"])
        print(
            f"  {name:<9} {np.median(values) * 1000:9.1f} ms ({values.min() * 1000:.1f} to "
            f"{values.max() * 1000:.1f})  {share:.2f} x ours"
        )
    work = [multiply_adds(model, FLAGS.image_size) for model in (ours, theirs)]
    values = [sum(int(np.prod(v.shape)) for v in model.trainable_variables) for model in (ours, theirs)]
    print(
        f"  multiply-adds of an image: ours {work[0] / 1e9:.3f} billion, keras {work[1] / 1e9:.3f}; "
        f"trained values: {values[0] / 1e6:.1f} and {values[1] / 1e6:.1f} million"
    )
    ratio = np.median(times["ours"] / times["keras"])
    print(f"  ours / keras: {ratio:.2f} by the clock, {ratio * work[1] / work[0]:.2f} for as many multiply-adds")


if __name__ == "__main__":
    run(main)
