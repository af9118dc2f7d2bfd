"""Builds TFRecord shards from an image list and a folder of images.

    python data_processing/build_tfrecords.py --image_list=train.txt --images=images --output_dir=records \\
        --split=train --num_shards=64 --dictionary=dictionary_and_semantic_hierarchy.txt

Writes train-00000-of-00064.tfrecords … into --output_dir, each when it is complete, with its counts beside it in a
.json. What is complete is not made again, so the same command resumes after a crash. When all shards are there it
writes manifest.json (settings, counts per shard and per class, SHA-256) and rejected.tsv (the images that were left
out, each with the reason). A second split in the same folder, val say, has manifest-val.json and rejected-val.tsv.
How often each class is labelled stands in label_counts-train.json.

The number of classes is that of --dictionary, which is copied to dictionary.txt beside the shards, from where training
takes the names; without one --class_num says it.

--resize_short=320 reduces images whose short side is longer: training at 224 pixels sees nearly the same, and reads and
decodes less. What is not reduced keeps its bytes.

Of a class that comes twice in a line the higher confidence holds. Images without labels are left out and counted, or
with --keep_unlabeled become records of no class.

Started N times, by mpirun or as a Slurm array, each process makes its share of the shards. The images are mixed over
the shards by --random_seed; the same command makes the same bytes, however many processes there are.
"""

import os
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use
from absl import flags

use("keep_unlabeled max_pixels max_rejected random_seed resize_short jpeg_quality")
flags.DEFINE_integer("num_shards", None, "Number of shards; if not set, 64, or one for each of fewer images.", 1, 99999)
flags.DEFINE_enum(
    "label_format",
    "sparse",
    ["sparse", "dense", "single"],
    "sparse: indices and confidences; dense: one float32 a class, as published; single: one class an image.",
)
script(
    __name__,
    __doc__,
    first="images class_num split num_shards label_format dictionary",
    required="image_list output_dir",
)

from data_processing.lists import dictionary
from data_processing.records.shard_writer import ShardConfig, build
from utils.files import write_text
from utils.launcher import rank_and_size


def main(argv):
    del argv
    rank, size = rank_and_size(os.environ, arrays=True)
    if not Path(FLAGS.images).is_dir():
        raise ValueError(f"--images={FLAGS.images} is no folder; give the one that the list's paths are relative to")
    classes = dictionary.load(FLAGS.dictionary) if FLAGS.dictionary else None
    count = len(classes.names) if classes else FLAGS.class_num
    if FLAGS["class_num"].present and count != FLAGS.class_num:
        raise ValueError(f"{FLAGS.dictionary} has {count} classes, not {FLAGS.class_num}: leave --class_num out")
    if classes:
        _keep_dictionary(Path(FLAGS.output_dir, dictionary.BESIDE), classes)
    given = classes is not None or FLAGS["class_num"].present
    of_shards = config(ShardConfig, class_num=count, class_num_given=given)
    build(FLAGS.image_list, FLAGS.images, FLAGS.output_dir, of_shards, rank, size)


def _keep_dictionary(path, classes):
    """Puts the dictionary beside the shards. Raises ValueError if those of another split there have other classes."""
    if path.exists() and (difference := dictionary.load(path).difference(classes)):
        raise ValueError(
            f"{FLAGS.dictionary} is not of the classes of {path} ({difference}); give the dictionary of the split that "
            "is there, or another --output_dir"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, classes.text)


if __name__ == "__main__":
    run(main)
