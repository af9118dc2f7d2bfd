"""What labels cost in a shard: sparse, as we write them, against the dense vectors of the published shards.

    python benchmarks/bytes_per_label.py --num_images=2000

Real records of 11,166 classes are encoded both ways; their labels take what the same record without them is shorter.
The number of labels of an image is geometric with ML-Images's mean (8.7, paper), its classes follow Zipf's law.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script

script(__name__, __doc__, first="num_images", defaults={"num_images": 2000})

import numpy as np
import tensorflow as tf

from data_processing.records import schema

CLASSES = 11166
LABELS = 8.7
IMAGES = 17_609_752  # in ML-Images
IMAGE_BYTES = 80_000


def main(argv):
    del argv
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, CLASSES + 1)
    popularity /= popularity.sum()
    counts, sizes = [], {"sparse": [], "dense": []}
    for _ in range(FLAGS.num_images):
        counts.append(rng.geometric(1 / LABELS))
        labels = rng.choice(CLASSES, counts[-1], replace=False, p=popularity).tolist()
        confidences = (rng.integers(5, 11, counts[-1]) / 10).tolist()
        for label_format, taken in sizes.items():
            taken.append(label_bytes(label_format, labels, confidences))
    print(
        f"{FLAGS.num_images} records of {CLASSES:,} classes, each encoded both ways: "
        f"{np.mean(counts):.1f} labels an image ({min(counts)} to {max(counts)})"
    )
    for label_format, taken in sizes.items():
        mean = np.mean(taken)
        print(
            f"  {label_format:<6} {mean:9.1f} bytes an image ({min(taken)} to {max(taken)}), "
            f"{mean / np.mean(counts):7.1f} bytes a label, {mean * IMAGES / 1e9:6.1f} GB for {IMAGES:,} images"
        )
    print(f"  dense / sparse: {np.mean(sizes['dense']) / np.mean(sizes['sparse']):.0f}")


def label_bytes(label_format, labels, confidences):
    """By how much the labels, with the names of their features, lengthen a record."""
    image = schema.Image(bytes(IMAGE_BYTES), 500, 375, "a.jpg")
    record = schema.encode(image, labels, confidences, label_format, CLASSES)
    example = tf.train.Example.FromString(record)
    for name in ("label", "label_index", "label_confidence"):
        example.features.feature.pop(name, None)
    return len(record) - example.ByteSize()


if __name__ == "__main__":
    run(main)
