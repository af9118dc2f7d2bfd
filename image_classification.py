"""Names what is in images: the classes with the highest scores, from a multi-label or a single-label network.

    python image_classification.py --images=list.txt --model_dir=out/checkpoint --result=predictions.csv

`--images` is a folder, a list (path and label, if any, on each line) or one image; `--model_dir` is a checkpoint's
prefix or a folder of checkpoints. The names of the classes are the checkpoint's own; where it has none, as published
ones, those of `--dictionary` or of the dictionary.txt beside it, else indices stand for them.

For each image a line with its path (and label) is printed, and a line "index name: score" for each class that is named:
all that reach `--threshold` or, without it, the threshold that evaluate.py left beside a checkpoint with a sigmoid
head; of these `--top_k_pred` at most, if that is given. Without any threshold, the `--top_k_pred` best. The first line
says which. `--result` holds the same; if it ends in .json, .jsonl or .csv, in that form (see
`evaluation/predictions.py`).

The head is sigmoid (each class has a probability of its own) or softmax (one class an image: the probabilities add up
to 1). An image that cannot be read is reported and left out; then the exit status is 1, and the result holds the
others. Under `mpirun` each process computes a share, and the first one prints and writes.
"""

import functools
import sys

from flags import FLAGS, config, given, run, script, use
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
from data_processing.input_pipeline.transforms import evaluation_image
from data_processing.lists import dictionary
import distributed
from evaluation import predictions, thresholds
from models import inference
from models.frozen import fold
from models.resnet import NetworkConfig
from utils.files import atomic_write

RESULT = "label_pred.txt"


def main(argv):
    del argv
    ranks = distributed.start()
    write_form = predictions.writer(FLAGS.result or RESULT)
    if FLAGS.hierarchy and FLAGS.dictionary and not dictionary.is_multi_label(FLAGS.dictionary):
        raise ValueError(f"--hierarchy needs a multi-label dictionary, with parents; {FLAGS.dictionary} has none")
    network = inference.load(
        FLAGS.model_dir,
        config(NetworkConfig),
        {name: given(name) for name in ("class_num", "resnet_size")},
        dictionary_path=FLAGS.dictionary,
    )
    files = file_batches.list_image_files(FLAGS.images, quiet=ranks.rank > 0)
    description, classes = network.description, network.classes
    head, why = inference.choose_head(FLAGS.head, description, classes and classes.ancestors is not None)
    size, says = inference.choose_image_size(given("image_size"), description, FLAGS.image_size)
    rule, named = _rule(network.prefix, head)
    ancestors = _ancestors(classes) if FLAGS.hierarchy else None
    predict = inference.score_function(fold(network.model), head, ancestors, FLAGS.xla)
    transform = functools.partial(evaluation_image, image_size=size)
    scores = file_batches.predictions(predict, files, transform, config(file_batches.FileConfig), ranks)

    def write(joined):
        print(
            f"ResNet-{description.resnet_size}, {description.class_num:,} classes, {head} head ({why}), {size} pixels "
            f"({says}); named: {named}"
        )
        if not classes:
            print(f"no names, only indices: {network.prefix} holds none; give them with --dictionary")
        names = classes.names if classes else [""] * description.class_num
        _write(write_form, _named(file_batches.by_image(joined, files), names, rule), len(files))

    distributed.on_first(scores, write)


def _rule(prefix, head):
    """Returns how many classes are named at most and from which score on, None for no limit, and the words for it."""
    threshold, source = (FLAGS.threshold, "--threshold") if FLAGS["threshold"].present else (None, "")
    if threshold is None and head == "sigmoid" and (stored := thresholds.read(prefix)):
        threshold, source = stored.threshold, f"best F1 on {stored.data_dir}, {thresholds.path_of(prefix)}"
    if threshold is None:
        hint = "; no threshold is stored, evaluate.py finds one" if head == "sigmoid" else ""
        return (FLAGS.top_k_pred, None), f"the {FLAGS.top_k_pred} best classes (--top_k_pred){hint}"
    most = given("top_k_pred")
    limit = f", at most {most} (--top_k_pred)" if most else ""
    return (most, threshold), f"classes of p >= {threshold:.4g} ({source}){limit}"


def _ancestors(classes):
    """Returns the ancestors of each class, of the checkpoint's names or of the same ones with a hierarchy."""
    if classes and classes.ancestors is None and FLAGS.dictionary:
        classes = dictionary.load(FLAGS.dictionary)
    if not classes or classes.ancestors is None:
        raise ValueError(
            "--hierarchy needs a multi-label dictionary, with parents; the checkpoint holds none: give it with "
            "--dictionary"
        )
    return classes.ancestors


def _write(write_form, named, count):
    """Writes and prints what `_named` yields of `count` images."""
    result = FLAGS.result or RESULT
    with atomic_write(result) as temp_path:
        written = write_form(temp_path, named)
    print(f"written: {result}, {written:,} images")
    if written < count:
        raise ValueError(f"{count - written:,} of {count:,} images could not be read and were left out")


def _named(scores, names, rule):
    """Yields each image that could be read with the classes that are named, (index, name, score), and prints them.

    `scores` are as of `file_batches.by_image`, `rule` as of `_rule`.
    """
    for read, rows, unreadable in scores:
        for image, reason in unreadable:
            print(f"left out: {image.name}: {reason}", file=sys.stderr)
        for image, row in zip(read, rows, strict=True):
            best = [(int(k), names[k], float(row[k])) for k in predictions.top_classes(row, *rule)]
            print(predictions.as_text(image, best))
            yield image, best


if __name__ == "__main__":
    run(main)
