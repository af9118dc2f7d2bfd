"""Builds the records of a dataset, with labels, boxes or masks, for finetune.py, which also does it by itself.

    python data_processing/build_classification.py --dataset=caltech256:256_ObjectCategories.tar \\
        --output_dir=records/caltech256 --train_per_class=30

    python data_processing/build_classification.py --dataset=voc2007:VOCdevkit --output_dir=records/voc2007

Writes train/, val/ and dictionary.txt into --output_dir, and dataset.json last. What is there is not made again. Class
folders may be split already, folder:FOLDER of train/CLASS/ and val/CLASS/. A CSV of paths and labels, csv:labels.csv
with --images, has any number of classes an image; see build_image_list.py for its flags.

Records of boxes are made of voc2007:, voc2012: or voc2007+2012:VOCdevkit (or a folder of the tars as they are
published), of coco:IMAGES,ANNOTATIONS.json, and of tfds:NAME if its images have objects with boxes. Images whose
annotation cannot be used are left out, as damaged ones are: rejected.tsv in train/ and val/ says why.

Records of masks are made of voc2012seg:VOCdevkit (or VOCtrainval_11-May-2012.tar), with --sbd=FOLDER of SBD's, too; of
masks:IMAGES,MASKS, PNGs whose pixels are classes or --void, and MASKS/classes.txt, which may name them, one a line; and
of tfds:NAME,FEATURE, as in tfds:oxford_iiit_pet,segmentation_mask.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, train_per_class, use

use("images keep_unlabeled CSV manual_dir max_rejected random_seed sbd void resize_short jpeg_quality")
script(__name__, __doc__, first="dataset train_per_class val_fraction", required="output_dir")

from data_processing.records import build_dataset
from data_processing.sources import datasets


def main(argv):
    del argv
    if not FLAGS.dataset:
        raise ValueError(f"--dataset is missing; write it as one of {'; '.join(datasets.KINDS.values())}")
    settings = config(build_dataset.DatasetConfig, train_per_class=train_per_class(single=True))
    made = build_dataset.build(FLAGS.dataset, FLAGS.output_dir, settings)
    print(f"{FLAGS.output_dir}: {made.class_num:,} classes, {made.train:,} images to train, {made.val:,} to validate")


if __name__ == "__main__":
    run(main)
