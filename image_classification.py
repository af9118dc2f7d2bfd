"""Names what is in images: the classes with the highest scores, from a multi-label or a single-label network.

    python image_classification.py --images=list.txt --model_dir=checkpoints/resnet.ckpt --dictionary=dictionary.txt

`--images` is a folder, a list (path and label, if any, on each line) or one image; `--model_dir` is a checkpoint's
prefix or a folder of checkpoints; the names of the classes are those of `--dictionary`, or of the dictionary.txt that
finetune.py left beside the checkpoint. For each image a line with its path (and label) is printed and written to
`--result`, then a line "index name: score" for each of the `--top_k_pred` best classes; with `--threshold`, only for
those that reach it. A `--result` that ends in .json becomes JSON instead.

The head is sigmoid (each class has a probability of its own) or softmax (one class an image: the probabilities add up
to 1). An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the
others. Under `mpirun` each process computes a share, and the first one prints and writes.
"""

import sys

from flags import FLAGS, config, run, script, use
from absl import flags

use("class_num resnet_size num_preprocess_threads max_pixels xla data_format precision batch_norm_epsilon visiable_gpu")
flags.DEFINE_bool("hierarchy", False, "Give each class the highest score among its own and its descendants'.")

BATCH_SIZE = 32
script(
    __name__,
    __doc__,
    first="images model_dir dictionary result top_k_pred threshold hierarchy head batch_size image_size",
    defaults={"batch_size": BATCH_SIZE},
)

from data_processing.input_pipeline import file_batches
from data_processing.lists import dictionary
import distributed
from evaluation import predictions
from models import checkpoint, inference
from models.resnet import NetworkConfig
from utils.files import atomic_write

RESULT = "label_pred.txt"


def main(argv):
    del argv
    ranks = distributed.start()
    dictionary_path = FLAGS.dictionary or dictionary.beside(FLAGS.model_dir)
    names, ancestors = _read_dictionary(dictionary_path)
    files = file_batches.list_image_files(FLAGS.images, quiet=ranks.rank > 0)
    _check_classes(len(names), dictionary_path)
    network = inference.load(
        FLAGS.model_dir,
        config(NetworkConfig),
        {name: FLAGS[name].value for name in ("class_num", "resnet_size") if FLAGS[name].present},
    )
    head, why = inference.choose_head(FLAGS.head, network.description, multi_label=ancestors is not None)
    predict = inference.score_function(network.model, head, ancestors if FLAGS.hierarchy else None, FLAGS.xla)
    scores = file_batches.predictions(predict, files, config(file_batches.FileConfig, crop="center"), ranks)

    def write(joined):
        print(f"ResNet-{network.description.resnet_size}, {len(names):,} classes, {head} head ({why})")
        _write(file_batches.by_image(joined, files), names, len(files))

    distributed.on_first(scores, write)


def _read_dictionary(path):
    """Returns the names by index and, from a multi-label dictionary, the ancestors of each class, else None."""
    if not path:
        raise ValueError("--dictionary is missing; give the dictionary that the network's classes come from")
    if dictionary.is_multi_label(path):
        entries = dictionary.read(path)
        return [entry.names for entry in entries], dictionary.ancestors(entries)
    if FLAGS.hierarchy:
        raise ValueError(f"--hierarchy needs a multi-label dictionary, with parents; {path} has none")
    return dictionary.read_names(path), None


def _check_classes(class_num, dictionary_path):
    """Raises ValueError if the checkpoint is not of so many classes as its dictionary."""
    prefix = checkpoint.resolve(FLAGS.model_dir)
    held = checkpoint.describe(prefix).class_num
    if held != class_num:
        raise ValueError(
            f"{dictionary_path} has {class_num:,} classes and {prefix} {held:,}; "
            "give the dictionary that the checkpoint was trained with"
        )


def _write(scores, names, count):
    """Writes and prints the best classes of each of `count` images; `scores` are as of `file_batches.by_image`."""
    result = FLAGS.result or RESULT
    write = predictions.write_json if result.lower().endswith(".json") else predictions.write_text
    with atomic_write(result) as temp_path:
        written = write(temp_path, _best_classes(scores, names))
    print(f"written: {result}, {written:,} images")
    if written < count:
        raise ValueError(f"{count - written:,} of {count:,} images could not be read and were left out")


def _best_classes(scores, names):
    """Yields each image that could be read with its best classes, (index, name, score), and prints them."""
    threshold = FLAGS.threshold if FLAGS["threshold"].present else None
    for read, rows, unreadable in scores:
        for image, reason in unreadable:
            print(f"left out: {image.name}: {reason}", file=sys.stderr)
        for image, row in zip(read, rows, strict=True):
            best = predictions.top_classes(row, FLAGS.top_k_pred, threshold)
            best = [(int(k), names[k], float(row[k])) for k in best]
            print(predictions.as_text(image, best))
            yield image, best


if __name__ == "__main__":
    run(main)
