"""Images a second that become records: on all cores, as build_tfrecords.py does it, against one after another.

    python benchmarks/build_tfrecords.py --num_images=3000 --rounds=5

In rounds, on the same list, from files in the page cache to shards on the disk:
  one at a time   a plain loop: read, check that the image decodes, encode the record, `tf.io.TFRecordWriter`;
  ours            `shard_writer.build_shards` with shards enough for all processes;
  ours, 1 shard   the same into a single shard, whose images the threads of one process share.
All three write the same records in the same order, which is checked. The first round, in which the processes import
TensorFlow, does not count.
"""

from pathlib import Path
import sys
import tempfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, run, script

script(__name__, __doc__, first="num_images rounds", defaults={"num_images": 3000})

import numpy as np
from PIL import Image
import tensorflow as tf

from benchmarks.rounds import in_rounds, seconds
from data_processing.images import image_files
from data_processing.lists import image_list
from data_processing.records import schema
from data_processing.records.shard_writer import ShardConfig, build_shards

CLASSES = 1000
SHARDS = 16
MADE = 100
WIDTH, HEIGHT = 500, 375


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sizes = make_images(folder)
        names = [f"{k % MADE}.jpg" for k in range(FLAGS.num_images)]
        rng = np.random.default_rng(0)
        rows = (
            image_list.Row(name, tuple(rng.choice(CLASSES, 9, replace=False).tolist()), (1.0,) * 9) for name in names
        )
        image_list.write(folder / "list.txt", rows)
        ways = {
            "one at a time": lambda: one_at_a_time(folder),
            "ours": lambda: ours(folder, SHARDS),
            "ours, 1 shard": lambda: ours(folder, 1),
        }
        ways = {name: lambda build=build: seconds(build) for name, build in ways.items()}
        rates = {name: FLAGS.num_images / np.array(times) for name, times in in_rounds(ways, FLAGS.rounds).items()}
        for count in (SHARDS, 1):
            check_same(folder, count)
    print(
        f"{FLAGS.num_images} JPEGs of {WIDTH} x {HEIGHT} pixels, {np.mean(sizes) / 1000:.0f} kB; images a second, "
        f"median (lowest to highest) of {FLAGS.rounds} rounds"
    )
    for name, rate in rates.items():
        ratio = np.median(rate / rates["one at a time"])
        print(f"  {name:<13} {np.median(rate):7.0f} ({min(rate):.0f} to {max(rate):.0f})  {ratio:.2f} x one at a time")


def make_images(folder):
    """Writes JPEGs with about as many bytes as photographs of their size have; returns the bytes of each."""
    rng = np.random.default_rng(0)
    for k in range(MADE):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        grain = rng.normal(size=(HEIGHT, WIDTH, 1)) * rng.uniform(2, 7)
        image = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{k}.jpg", quality=95)
    return [(folder / f"{k}.jpg").stat().st_size for k in range(MADE)]


def one_at_a_time(folder):
    """Builds one shard, loop.tfrecords, in a loop."""
    with tf.io.TFRecordWriter(str(folder / "loop.tfrecords")) as writer:
        for row in image_list.read(folder / "list.txt"):
            encoded, width, height = image_files.as_jpeg((folder / row.path).read_bytes())
            image = schema.Image(encoded, width, height, row.path)
            writer.write(schema.encode(image, row.labels, row.confidences, "sparse", CLASSES))


def ours(folder, count):
    """Builds `count` shards."""
    offsets = np.array_split(image_list.line_offsets(folder / "list.txt")[0], count)
    config = ShardConfig("train", "sparse", CLASSES, count, random_seed=0, max_rejected=0.0)
    build_shards(list(zip(shards(folder, count), offsets, strict=True)), folder / "list.txt", folder, config)


def shards(folder, count):
    return [folder / f"{count}-{k}.tfrecords" for k in range(count)]


def check_same(folder, count):
    """Raises AssertionError if `count` shards hold other bytes than the loop's."""
    if b"".join(path.read_bytes() for path in shards(folder, count)) != (folder / "loop.tfrecords").read_bytes():
        raise AssertionError(f"{count} shards hold other bytes than the loop wrote")


if __name__ == "__main__":
    run(main)
