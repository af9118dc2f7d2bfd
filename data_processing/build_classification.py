"""Builds the records of a single-label dataset for finetune.py, which also does it by itself.

    python data_processing/build_classification.py --dataset=caltech256:256_ObjectCategories.tar \\
        --output_dir=records/caltech256 --train_per_class=30

Writes train/, val/ and dictionary.txt into --output_dir, and dataset.json last. What is there is not made again.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import DATASET, FLAGS, checked, values
from absl import app, flags

from data_processing.sources.labeled_images import single_label


def main(argv):
    del argv
    if not FLAGS.dataset:
        raise ValueError(f"--dataset is missing; write it as one of {'; '.join(single_label.KINDS.values())}")
    made = single_label.build(FLAGS.dataset, FLAGS.output_dir, seed=FLAGS.random_seed, **values(DATASET))
    print(f"{FLAGS.output_dir}: {made.class_num:,} classes, {made.train:,} images to train, {made.val:,} to validate")


if __name__ == "__main__":
    flags.mark_flags_as_required(["output_dir"])
    app.run(checked(main))
