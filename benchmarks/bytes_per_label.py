"""What labels cost in a shard: sparse, as we write them, against the dense vectors of the published shards.

Real records of 11,166 classes are encoded both ways; their labels take what the same record without them is shorter.
The number of labels of an image is geometric with ML-Images's mean (8.7, paper), its classes follow Zipf's law.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
import flags  # noqa: E402, F401
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from data_processing.records import schema  # noqa: E402

CLASSES = 11166
LABELS = 8.7
PICTURES = 17_609_752  # in ML-Images
PICTURE_BYTES = 80_000
RECORDS = 2000


def main():
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, CLASSES + 1)
    popularity /= popularity.sum()
    counts, sizes = [], {"sparse": [], "dense": []}
    for _ in range(RECORDS):
        counts.append(rng.geometric(1 / LABELS))
        labels = rng.choice(CLASSES, counts[-1], replace=False, p=popularity).tolist()
        confidences = (rng.integers(5, 11, counts[-1]) / 10).tolist()
        for label_format, found in sizes.items():
            found.append(label_bytes(label_format, labels, confidences))
    print(
        f"{RECORDS} records of {CLASSES:,} classes, each encoded both ways: {np.mean(counts):.1f} labels an image "
        f"({min(counts)} to {max(counts)})"
    )
    for label_format, found in sizes.items():
        mean = np.mean(found)
        print(
            f"  {label_format:<6} {mean:9.1f} bytes an image ({min(found)} to {max(found)}), "
            f"{mean / np.mean(counts):7.1f} bytes a label, {mean * PICTURES / 1e9:6.1f} GB for {PICTURES:,} images"
        )
    print(f"  dense / sparse: {np.mean(sizes['dense']) / np.mean(sizes['sparse']):.0f}")


def label_bytes(label_format, labels, confidences):
    """By how much the labels, with the names of their features, lengthen a record."""
    record = schema.encode(bytes(PICTURE_BYTES), 500, 375, "a.jpg", labels, confidences, label_format, CLASSES)
    example = tf.train.Example.FromString(record)
    for name in ("label", "label_index", "label_confidence"):
        example.features.feature.pop(name, None)
    return len(record) - example.ByteSize()


if __name__ == "__main__":
    main()
