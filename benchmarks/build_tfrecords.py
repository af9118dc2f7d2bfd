"""Images a second that become records: on all cores, as build_tfrecords.py does it, against one after another.

Measured in turns, on the same list, from files in the page cache to shards on the disk:
  one at a time   a plain loop: read, check that the image decodes, encode the record, `tf.io.TFRecordWriter`;
  ours            `shard_writer.build_shards` with shards enough for all processes;
  ours, 1 shard   the same into a single shard, whose images the threads of one process share.
All three write the same records in the same order, which is checked. The first turn, in which TensorFlow is imported in
the processes, is not counted.
"""

from pathlib import Path
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, checked  # noqa: E402
from absl import app, flags  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.images import image_files  # noqa: E402
from data_processing.lists import image_list  # noqa: E402
from data_processing.records import schema  # noqa: E402
from data_processing.records.shard_writer import build_shards  # noqa: E402

flags.DEFINE_integer("repetitions", 5, "Turns of each; the median is printed.", lower_bound=3)
flags.DEFINE_integer("images", 3000, "Images in one turn.", lower_bound=100)

SETTINGS = {"label_format": "sparse", "class_num": 1000, "max_pixels": image_files.MAX_PIXELS}
SHARDS = 16
MADE = 100
WIDTH, HEIGHT = 500, 375


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sizes = make_images(folder)
        names = [f"{k % MADE}.jpg" for k in range(FLAGS.images)]
        rng = np.random.default_rng(0)
        rows = (image_list.Row(name, tuple(rng.choice(1000, 9, replace=False).tolist()), (1.0,) * 9) for name in names)
        image_list.write(folder / "list.txt", rows)
        ways = {
            "one at a time": lambda: one_at_a_time(folder),
            "ours": lambda: ours(folder, SHARDS),
            "ours, 1 shard": lambda: ours(folder, 1),
        }
        seconds = {name: [] for name in ways}
        for turn in range(FLAGS.repetitions + 1):
            for name, build in ways.items():
                begin = time.perf_counter()
                paths = build()
                if turn:
                    seconds[name].append(time.perf_counter() - begin)
                check_same(name, paths, folder)
    rates = {name: FLAGS.images / np.array(times) for name, times in seconds.items()}
    print(
        f"{FLAGS.images} JPEGs of {WIDTH} x {HEIGHT} pixels, {np.mean(sizes) / 1000:.0f} kB; images a second, "
        f"median (lowest to highest) of {FLAGS.repetitions} turns"
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
    """Builds one shard in a loop; returns its path in a list."""
    with tf.io.TFRecordWriter(str(folder / "loop.tfrecords")) as writer:
        for row in image_list.read(folder / "list.txt"):
            image, width, height = image_files.as_jpeg((folder / row.path).read_bytes())
            labels = (row.labels, row.confidences, SETTINGS["label_format"], SETTINGS["class_num"])
            writer.write(schema.encode(image, width, height, row.path, *labels))
    return [folder / "loop.tfrecords"]


def ours(folder, count):
    """Builds `count` shards; returns their paths."""
    offsets = np.array_split(image_list.line_offsets(folder / "list.txt"), count)
    paths = [folder / f"{count}-{k}.tfrecords" for k in range(count)]
    build_shards(list(zip(paths, offsets, strict=True)), SETTINGS, folder / "list.txt", folder)
    return paths


def check_same(name, paths, folder):
    expected, found = (folder / "loop.tfrecords").read_bytes(), b"".join(path.read_bytes() for path in paths)
    if found != expected:
        raise AssertionError(f"'{name}' wrote other bytes than the loop")


if __name__ == "__main__":
    app.run(checked(main))
