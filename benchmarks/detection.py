"""The time of finding objects, against the backbone alone, on the device that TensorFlow finds.

    python benchmarks/detection.py --rounds=5

In rounds, for one image of 600 x 1,000 pixels:
  backbone   the network up to stages_2, which a classification network would need, too;
  300, 100   the whole detection: the backbone, as many proposals, the head on them, and the choice among what it found.
The ratios by the clock, round by round, stand beside those by multiplications.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use
from absl import flags

use("data_format precision batch_norm_epsilon visiable_gpu")
flags.DEFINE_list("proposal_counts", ["300", "100"], "Numbers of proposals to compare.")
flags.DEFINE_list("sides", ["600", "1000"], "Height and width of the image in pixels.")
script(
    __name__,
    __doc__,
    first="rounds resnet_size batch_size proposal_counts sides",
    defaults={"rounds": 5, "batch_size": 1},
)

import numpy as np
import tensorflow as tf

from benchmarks.rounds import in_rounds, seconds
from models.faster_rcnn import Detector, build_detector
from models.resnet import NetworkConfig, resolve_data_format
from training import plan

CLASSES = 20


def main(argv):
    del argv
    sides = [int(side) for side in FLAGS.sides]
    images = tf.random.stateless_uniform([FLAGS.batch_size, *sides, 3], [0, 0], -1, 1)
    sizes = tf.tile([sides], [FLAGS.batch_size, 1])
    network = config(NetworkConfig, data_format=resolve_data_format(FLAGS.data_format))
    detector = build_detector(FLAGS.resnet_size, CLASSES, network)
    products = plan.detector_multiply_adds(detector, sides)
    ways, expected = {"backbone": compiled(detector.trunk)}, {"backbone": products["trunk"]}
    for count in map(int, FLAGS.proposal_counts):
        name = f"{count} proposals"
        ways[name] = tf.function(with_proposals(detector, network, count).detect, autograph=False)
        expected[name] = products["trunk"] + products["rpn"] + count * products["region"]
    timed = {name: lambda way=way: seconds(lambda: force(way(images, sizes))) for name, way in ways.items()}
    times = {name: np.array(values) for name, values in in_rounds(timed, FLAGS.rounds).items()}
    print(
        f"ResNet-{FLAGS.resnet_size}, {sides[0]:,} x {sides[1]:,} pixels, batch {FLAGS.batch_size}, {FLAGS.precision}; "
        f"median of {FLAGS.rounds} rounds"
    )
    for name, values in times.items():
        # Round by round, so that whatever else the machine did meanwhile bears on both.
        ratio = np.median(values / times["backbone"])
        print(
            f"  {name:<14} {np.median(values) * 1000:8.0f} ms ({values.min() * 1000:.0f} to {values.max() * 1000:.0f})"
            f"  {ratio:5.2f} x the backbone; by multiplications {expected[name] / 1e9:6.1f} G, "
            f"{expected[name] / products['trunk']:.2f} x"
        )


def with_proposals(detector, network, count):
    """The detector with another number of proposals, of the same layers."""
    changed = detector.config._replace(proposals=count)
    return Detector((detector.trunk, detector.rpn, detector.head), detector.class_num, network, changed)


def compiled(model):
    return tf.function(lambda images, sizes: model(images, training=False), autograph=False)


def force(outputs):
    """Waits for a device to have computed."""
    return [x.numpy() for x in tf.nest.flatten(outputs)]


if __name__ == "__main__":
    run(main)
