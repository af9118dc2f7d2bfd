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

import collections
import json
import sys

from flags import FLAGS, checked
from absl import app, flags
import numpy as np
import tensorflow as tf

from data_processing.input_pipeline import file_batches
from data_processing.lists import dictionary
import distributed
from models import checkpoint
from models.resnet import resolve_data_format
from utils.files import atomic_write

flags.DEFINE_bool("hierarchy", False, "Give each class the highest score among its own and its descendants'.")

RESULT = "label_pred.txt"
BATCH_SIZE = 32


def main(argv):
    del argv
    ranks = distributed.start()
    result = FLAGS.result or RESULT
    dictionary_path = FLAGS.dictionary or dictionary.beside(FLAGS.model_dir)
    names, ancestors = _read_dictionary(dictionary_path)
    found = file_batches.list_image_files(FLAGS.images)
    model, description = _load_model(len(names), dictionary_path)
    head = FLAGS.head or ("sigmoid" if ancestors else "softmax")
    predict = score_function(model, head, ancestors if FLAGS.hierarchy else None, FLAGS.xla)
    if ranks.rank:
        collections.deque(_scores(predict, found, ranks), maxlen=0)
        return
    why = "--head" if FLAGS.head else f"the dictionary is {'multi' if ancestors else 'single'}-label; --head changes it"
    print(f"ResNet-{description.resnet_size}, {len(names):,} classes, {head} head ({why})")
    write = write_json if result.lower().endswith(".json") else write_text
    with atomic_write(result) as temp_path:
        written = write(temp_path, _predictions(_scores(predict, found, ranks), names))
    print(f"written: {result}, {written:,} images")
    if written < len(found):
        raise ValueError(f"{len(found) - written:,} of {len(found):,} images could not be read and were left out")


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


def _load_model(class_num, dictionary_path):
    """Returns the network of the checkpoint and its description; `class_num` is the number of the dictionary."""
    prefix = checkpoint.resolve(FLAGS.model_dir)
    held = checkpoint.describe(prefix).class_num
    if held != class_num:
        raise ValueError(
            f"{dictionary_path} has {class_num:,} classes and {prefix} {held:,}; "
            "give the dictionary that the checkpoint was trained with"
        )
    return checkpoint.load_model(
        prefix,
        data_format=resolve_data_format(FLAGS.data_format),
        precision=FLAGS.precision,
        batch_norm_epsilon=FLAGS.batch_norm_epsilon,
        expected={name: int(FLAGS[name].value) for name in ("class_num", "resnet_size") if FLAGS[name].present},
    )


def score_function(model, head, ancestors=None, xla=False):
    """Returns the function from images [batch, height, width, 3] to scores in [0, 1], float32 [batch, classes].

    Args:
      model: a `models.resnet` network.
      head: "softmax" or "sigmoid".
      ancestors: the ancestors of each class, to give each class the highest score among its own and its descendants'.
      xla: whether to compile with XLA.
    """
    activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[head]
    network = tf.function(
        lambda images: activation(model(images, training=False)["logits"]), reduce_retracing=True, jit_compile=xla
    )
    if not ancestors:
        return network
    # Pairs of a class and a member of its family, which is itself and its descendants, family after family.
    pairs = sorted((head_of, k) for k, chain in enumerate(ancestors) for head_of in (k, *chain))
    family, member = np.array(pairs).T
    first = np.searchsorted(family, np.arange(len(ancestors)))
    return lambda images: np.maximum.reduceat(network(images).numpy()[:, member], first, axis=1)


def top_classes(scores, top_k, threshold=None):
    """Returns the indices of the `top_k` highest of `scores` [classes], best first; only those from `threshold` on.

    Of equal scores the lower index comes first.
    """
    best = np.argsort(-scores, kind="stable")[:top_k]
    return best if threshold is None else best[scores[best] >= threshold]


def _scores(predict, found, ranks):
    """Yields what `file_batches.predict_files` yields, for the images of all ranks."""
    return file_batches.predict_files(
        predict,
        found,
        join=distributed.gathered,
        batch_size=FLAGS.batch_size if FLAGS["batch_size"].present else BATCH_SIZE,
        image_size=FLAGS.image_size,
        rank=ranks.rank,
        size=ranks.size,
        threads=FLAGS.num_preprocess_threads,
    )


def _predictions(batches, names):
    """Yields each image that could be read with its best classes, (index, name, score), and prints them."""
    threshold = FLAGS.threshold if FLAGS["threshold"].present else None
    for read, scores, unreadable in batches:
        for image, reason in unreadable:
            print(f"left out: {image.name}: {reason}", file=sys.stderr)
        for image, row in zip(read, scores, strict=True):
            best = [(int(k), names[k], float(row[k])) for k in top_classes(row, FLAGS.top_k_pred, threshold)]
            print(as_text(image, best))
            yield image, best


def as_text(image, best):
    """Returns the lines for a `file_batches.ImageFile` and its best classes, (index, name, score)."""
    header = f"{image.name}\t{image.label}" if image.label else image.name
    return "\n".join([header, *(f"{index} {name}: {score:.3f}" for index, name, score in best)])


def write_text(path, predictions):
    """Writes `as_text` of each prediction, an image and its best classes; returns how many images."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for count, (image, best) in enumerate(predictions, start=1):  # noqa: B007
            file.write(as_text(image, best) + "\n")
    return count


def write_json(path, predictions):
    """Writes a JSON list of {"image", "label", "classes": [{"index", "name", "score"}]}; returns how many images."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for count, (image, best) in enumerate(predictions, start=1):
            classes = [{"index": index, "name": name, "score": round(score, 6)} for index, name, score in best]
            row = {"image": image.name, "label": image.label, "classes": classes}
            file.write(("\n" if count == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")
    return count


if __name__ == "__main__":
    app.run(checked(main))
