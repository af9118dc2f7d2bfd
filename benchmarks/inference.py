"""What folding and bfloat16 are worth to a network in use, and how it stands beside Keras's.

    python benchmarks/inference.py --resnet_size=101 --batch_size=8 --rounds=7

In each round five ways follow each other, on the same images in memory:
  unfrozen      the network as it is trained;
  frozen        folded, as extract_feature.py and the others use it;
  bfloat16      folded, and computed in that;
  keras         Keras's ResNet V2 of that depth as users run it, by `predict`;
  keras frozen  the same, folded by the same function.
Prints images per second, by processor time too, what the first batch takes, and the medians of the rounds' ratios.
"""

from pathlib import Path
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use

use("random_seed xla data_format batch_norm_epsilon visiable_gpu")
script(
    __name__,
    __doc__,
    first="rounds resnet_size batch_size image_size",
    defaults={"batch_size": 8, "rounds": 7},
)

import keras
import numpy as np

from benchmarks.rounds import in_rounds
from models.frozen import fold
from models.inference import output_function
from models.resnet import NetworkConfig, build_resnet, resolve_data_format

CLASSES = 1000
# By depth. Keras has none of fewer layers than 50, which stands for these: with it, ours only shows that it runs.
OF_KERAS = {50: keras.applications.ResNet50V2, 101: keras.applications.ResNet101V2, 152: keras.applications.ResNet152V2}
# What they are called, and the ways whose rates they divide.
RATIOS = {
    "frozen / unfrozen": ("frozen", "unfrozen"),
    "bfloat16 / float32": ("bfloat16", "frozen"),
    "ours / keras": ("frozen", "keras"),
    "ours / keras, both frozen": ("frozen", "keras frozen"),
}


def main(argv):
    del argv
    shape = [FLAGS.batch_size, FLAGS.image_size, FLAGS.image_size, 3]
    images = np.random.default_rng(FLAGS.random_seed).uniform(-1, 1, shape).astype(np.float32)
    begins, ways = {}, {}
    for name, build in builders().items():
        begin = time.process_time()
        ways[name] = build()
        ways[name](images)
        begins[name] = time.process_time() - begin
    measured = in_rounds({name: lambda way=way: timed(way, images) for name, way in ways.items()}, FLAGS.rounds)
    report({name: np.array(times) for name, times in measured.items()}, begins)


def builders():
    """Returns functions that make the five ways, each a function of images to an array."""
    layout = resolve_data_format(FLAGS.data_format)
    model, half = (
        build_resnet(FLAGS.resnet_size, CLASSES, config(NetworkConfig, data_format=layout, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    half.set_weights(model.get_weights())
    pixels = (FLAGS.image_size, FLAGS.image_size, 3)
    of_keras = OF_KERAS.get(FLAGS.resnet_size, OF_KERAS[50])(weights=None, input_shape=pixels)

    def keras_frozen():
        folded = fold(of_keras)
        return ours(lambda images, training: {"feature": folded(images)})

    return {
        "unfrozen": lambda: ours(model),
        "frozen": lambda: ours(fold(model)),
        "bfloat16": lambda: ours(fold(half)),
        "keras": lambda: lambda images: of_keras.predict(images, batch_size=FLAGS.batch_size, verbose=0),
        "keras frozen": keras_frozen,
    }


def ours(network):
    predict = output_function(network, "feature", FLAGS.xla)
    return lambda images: predict(images).numpy()


def timed(way, images):
    """Returns the seconds of one batch by the clock and by the processor's time, of all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    way(images)
    return time.perf_counter() - clock, time.process_time() - processor


def report(times, begins):
    print(
        f"ResNet-{FLAGS.resnet_size}, {FLAGS.image_size} px, batch {FLAGS.batch_size}; median of {FLAGS.rounds} rounds"
    )
    for name, values in times.items():
        clock, processor = np.median(FLAGS.batch_size / values, axis=0)
        print(
            f"  {name:<14} {clock:8.2f} images/s, {processor:8.2f} a second of a core; first batch after "
            f"{begins[name]:.1f} core-seconds"
        )
    for name, (one, other) in RATIOS.items():
        clock, processor = np.median(times[other] / times[one], axis=0)
        print(f"  {name}: {clock:.2f} by the clock, {processor:.2f} by processor time")


if __name__ == "__main__":
    run(main)
