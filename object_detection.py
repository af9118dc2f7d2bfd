"""Finds the objects in images, each with a box and a class, with a network that finetune.py has trained for it.

    python object_detection.py --images=photos --model_dir=out/voc2007/best --result=out.json --draw=out/drawn

`--images` is a folder, a list (a path on each line) or one image; `--model_dir` is a checkpoint's prefix or a folder of
checkpoints. The checkpoint knows its classes and their names, its anchors, and the size in which it sees images.

`--result` is a list in COCO's format of results, with two more names: {"image_id", "category_id", "bbox": [left, top,
width, height] in pixels of the image, "score", "file_name", "category_name"}. `image_id` is the number that is the
file's name, if all files are called by different numbers, else the image's place from 1; `category_id` is the class's
index and 1. At most 100 objects an image, all that the network finds or those that reach `--threshold`; printed and
drawn into copies of the images below `--draw` are those that reach it or, without it, 0.5.

An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the others.
Batches are of images of one size, so that no image depends on others. Under `mpirun` each process computes a share, and
the first one prints and writes.
"""

import sys

from flags import FLAGS, config, given, run, script, use
from absl import flags

use("class_num resnet_size num_preprocess_threads max_pixels data_format precision batch_norm_epsilon visiable_gpu")
flags.DEFINE_string("draw", "", "Folder for copies of the images with the objects drawn into them.")

BATCH_SIZE = 4
script(
    __name__,
    __doc__,
    first="images model_dir dictionary result draw threshold proposals batch_size image_size long_side",
    defaults={"batch_size": BATCH_SIZE},
)

import numpy as np
from tqdm import tqdm

from data_processing.images.image_files import ImageError
from data_processing.input_pipeline import file_batches
import distributed
from evaluation import box_predictions, copies, drawn_files
from models import inference
from models.resnet import NetworkConfig
from tasks import detection_inference
from tasks.detection import SHOWN_SCORE
from utils.files import atomic_write, writable

RESULT = "detections.json"


def main(argv):
    del argv
    ranks = distributed.start()
    result = FLAGS.result or RESULT
    if not result.lower().endswith(".json"):
        raise ValueError(f"--result={result}: name a file that ends in .json")
    writable(result)
    network = inference.load_detector(
        FLAGS.model_dir,
        config(NetworkConfig),
        FLAGS.proposals,
        {name: given(name) for name in ("class_num", "resnet_size")},
        FLAGS.dictionary,
    )
    files = file_batches.list_image_files(FLAGS.images, quiet=ranks.rank > 0)
    drawn = copies.targets(files, FLAGS.images, FLAGS.draw, "--draw") if FLAGS.draw else None
    description, classes = network.description, network.classes
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    sides = detection_inference.choose_sides(given("image_size"), given("long_side"), description)
    found = file_batches.predictions(
        detection_inference.finder(network.detector),
        files,
        detection_inference.transform(sides),
        config(file_batches.FileConfig),
        ranks,
    )
    if drawn:
        found = _drawing(found, files, names, drawn)

    def write(joined):
        print(
            f"Faster R-CNN on ResNet-{description.resnet_size}, {description.class_num:,} classes, step "
            f"{description.step:,}; {sides.says}, {FLAGS.proposals} proposals; shown: score >= {_shown()}"
        )
        if not classes:
            print(f"no names, only indices: {network.prefix} holds none; give them with --dictionary")
        _write(result, joined, files, names)

    distributed.on_first(found, write)


def _shown():
    """Returns the least score of what is printed and drawn."""
    return SHOWN_SCORE if FLAGS.threshold is None else FLAGS.threshold


def _objects(batches, count):
    """Yields, for each batch of predictions of `count` images, the places of images and their `FoundObjects`, a list of
    pairs, and likewise the places of those that are left out and the reasons.
    """
    for read, rows, left_out in file_batches.by_image(batches, range(count)):
        found = []
        for place, *row in zip(read, rows["boxes"], rows["scores"], rows["classes"], strict=True):
            objects = box_predictions.FoundObjects(*row)
            if np.isfinite(objects.scores).all():
                found.append((place, objects.above(FLAGS.threshold or 0)))
            else:
                left_out.append((place, "the network's answers are not finite; take an older checkpoint"))
        yield found, left_out


def _drawing(batches, files, names, drawn):
    """Yields the batches of one process's predictions, when it has drawn what is in their images.

    These are read again: none is kept in memory. What changed on the disk meanwhile, so that it cannot be read, is left
    out like what never could.
    """
    for batch in batches:
        errors = batch["error"].copy()
        for found, _ in _objects([batch], len(files)):
            for place, objects in found:
                try:
                    pixels = file_batches.decode_file(files[place].file, FLAGS.max_pixels)
                except ImageError as error:
                    errors[batch["index"] == place] = str(error).encode()
                else:
                    drawn_files.write(drawn[place], pixels, objects.above(_shown()), names)
        yield batch | {"error": errors}


def _write(result, batches, files, names):
    """Writes and prints what was found in the images that could be read, and reports the others."""
    found = {}
    with tqdm(total=len(files), unit=" images") as bar:
        for images, left_out in _objects(batches, len(files)):
            for place, reason in left_out:
                bar.write(f"left out: {files[place].name}: {reason}", file=sys.stderr)
            for place, objects in images:
                bar.write(box_predictions.as_text(files[place], objects.above(_shown()), names))
            found.update(images)
            bar.update(len(images) + len(left_out))
    ids, kind = box_predictions.image_ids(files)
    rows = (row for k in sorted(found) for row in box_predictions.rows(files[k], ids[k], found[k], names))
    with atomic_write(result) as temp_path:
        count = box_predictions.write(temp_path, rows)
    print(f"written: {result}, {count:,} objects in {len(found):,} images; image_id: {kind}")
    if FLAGS.draw:
        print(f"written: {FLAGS.draw}, {len(found):,} images with their objects of score >= {_shown()}")
    if len(found) < len(files):
        raise ValueError(f"{len(files) - len(found):,} of {len(files):,} images were left out, as reported above")


if __name__ == "__main__":
    run(main)
