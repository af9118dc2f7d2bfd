"""How long it takes to find the records of ML-Images, in shards with their offsets beside them and without.

    python benchmarks/index_records.py --shards=1000 --num_images=17609752

  offset files   `index_records` with offsets beside all shards. The offsets are those of records of 40 to 160 kB; of
                 the shards, which would take 1.8 TB, only the first record is there: nothing else of them is opened.
  headers        `index_records` without any, on shards of short records whose headers are real, and as many as
                 --sample says: by the record, times --num_images. It includes that they are noted.

All files are in the page cache: on a cold disk each header is a seek, and of the offsets 4 bytes a record are read.
Memory is what Python and NumPy allocate in the first way (tracemalloc, in a round of its own).
"""

from pathlib import Path
import sys
import tempfile
import time
import tracemalloc

sys.path.insert(0, str(Path(__file__).parents[1]))

from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_integer("shards", 1000, "Shards.", lower_bound=1)
flags.DEFINE_integer("sample", 200_000, "Records whose headers are gone through.", lower_bound=1)
script(__name__, __doc__, first="rounds shards num_images sample", defaults={"num_images": 17_609_752, "rounds": 5})

import numpy as np

from benchmarks.rounds import in_rounds, seconds
from data_processing.records import offset_file, schema, tfrecord
from data_processing.records.index import index_records

CLASSES = 11166
RECORD_BYTES = 40_000, 160_000
SHORT, SAMPLE_SHARDS = 100, 8


def main(argv):
    del argv
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shards, sample = noted_shards(folder), sample_shards(folder)
        index = index_records(shards, CLASSES)
        assert len(index) == FLAGS.num_images
        ways = {
            "offset files": lambda: timed(lambda: index_records(shards, CLASSES)),
            "headers": lambda: timed(lambda: walk(sample)),
        }
        times = {name: np.array(values) for name, values in in_rounds(ways, FLAGS.rounds).items()}
        kept, peak = memory(shards)
    times["headers"] *= FLAGS.num_images / FLAGS.sample
    print(f"{FLAGS.num_images:,} records in {FLAGS.shards:,} shards; median of {FLAGS.rounds} rounds")
    for name, values in times.items():
        middle, processor = np.median(values, axis=0)
        says = f", from {FLAGS.sample:,} records" if name == "headers" else ""
        print(
            f"  {name:<13} {middle:9.3f} s ({values[:, 0].min():.3f} to {values[:, 0].max():.3f}): "
            f"{FLAGS.num_images / middle:14,.0f} records/s, {processor:.3f} s by processor time{says}"
        )
    by_clock, by_processor = np.median(times["headers"] / times["offset files"], axis=0)
    print(f"  headers / offset files: {by_clock:.1f} by the clock, {by_processor:.1f} by processor time")
    print(f"  memory: {kept:.1f} bytes a record, {peak:.1f} at the peak")


def timed(function):
    """Returns the seconds of a call, by the clock and by processor time."""
    begin = time.process_time()
    by_clock = seconds(function)
    return by_clock, time.process_time() - begin


def noted_shards(folder):
    """Returns the paths of shards with offsets beside them; of each but the length, and the first record, is a hole."""
    rng, first = np.random.default_rng(0), tfrecord.frame(example())
    paths = []
    for k, numbers in enumerate(np.array_split(np.arange(FLAGS.num_images), FLAGS.shards)):
        lengths = rng.integers(*RECORD_BYTES, len(numbers))
        lengths[:1] = len(first)
        paths.append(str(folder / f"train-{k:05d}.tfrecords"))
        with open(paths[-1], "wb") as file:
            file.write(first if len(lengths) else b"")
            file.truncate(lengths.sum())
        offset_file.write(paths[-1], lengths)
    return paths


def sample_shards(folder):
    """Returns the paths of shards of short records."""
    record = tfrecord.frame(example())
    paths = []
    for k, numbers in enumerate(np.array_split(np.arange(FLAGS.sample), SAMPLE_SHARDS)):
        paths.append(str(folder / f"sample-{k:05d}.tfrecords"))
        Path(paths[-1]).write_bytes(record * len(numbers))
    return paths


def example():
    return schema.encode(schema.Image(bytes(SHORT), 500, 375, "a.jpg"), [1], [1.0], "sparse", CLASSES)


def walk(paths):
    """Indexes shards by their headers, and forgets it."""
    index_records(paths, CLASSES, quiet=True)
    for path in paths:
        offset_file.place(path).unlink()


def memory(paths):
    """Returns the bytes a record that an index takes, and those at the peak while it is made."""
    tracemalloc.start()
    index = index_records(paths, CLASSES)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / len(index), peak / len(index)


if __name__ == "__main__":
    run(main)
