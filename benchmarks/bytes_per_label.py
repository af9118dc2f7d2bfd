"""What labels cost in a shard: sparse, as we write them, against the dense vectors of the published shards.

Real records of 11,166 classes are encoded both ways, and without any label; the difference is what the labels take.
The number of labels of a picture is geometric with ML-Images's mean (8.7, paper), its classes are skewed.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402

from data_processing import tfrecord  # noqa: E402

CLASSES = 11166
LABELS = 8.7
PICTURES = 17_609_752  # in ML-Images
RECORDS = 2000


def main():
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, CLASSES + 1)
    popularity /= popularity.sum()
    sizes = {"sparse": [], "dense": []}
    counts = []
    for _ in range(RECORDS):
        count = rng.geometric(1 / LABELS)
        labels = rng.choice(CLASSES, count, replace=False, p=popularity).tolist()
        confidences = (rng.integers(5, 11, count) / 10).tolist()
        counts.append(count)
        for label_format in sizes:
            labelled = record_size(label_format, labels, confidences)
            sizes[label_format].append(labelled - record_size("sparse", [], []) + EMPTY)
    print(f"{RECORDS} records of {CLASSES} classes, {np.mean(counts):.1f} labels a picture ({max(counts)} at most)")
    for label_format, found in sizes.items():
        mean = np.mean(found)
        print(
            f"  {label_format:<6} {mean:9.1f} bytes a picture ({min(found)} to {max(found)}), "
            f"{mean / np.mean(counts):8.1f} a label, {mean * PICTURES / 1e9:7.1f} GB for {PICTURES:,} pictures"
        )
    print(f"  dense / sparse: {np.mean(sizes['dense']) / np.mean(sizes['sparse']):.0f}")


def record_size(label_format, labels, confidences):
    """Bytes of a record in its shard, of a picture without pixels."""
    record = tfrecord.encode(b"", 500, 375, "n/a.jpg", labels, confidences, label_format, CLASSES)
    return len(tfrecord.frame(record))


# What the names of the two label features take, and their empty lists: labels cost this even when there are none.
EMPTY = 0
