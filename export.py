"""Exports a checkpoint as a SavedModel with the preprocessing inside: encoded images in, names and scores out.

    python export.py --model_dir=out/caltech256/best --output_dir=exported

    model = tf.saved_model.load("exported")
    answers = model.serve(tf.constant([open("dog.jpg", "rb").read()]))
    answers["name"], answers["score"], answers["index"]       [1, 5] each, the best class first
    answers["scores"], answers["names"]                       [1, classes] and [classes], in the order of the indices
    answers["threshold"]                                      from which on a class is to be named; sigmoid heads only

Images are JPEG, PNG, GIF (the first frame) or BMP, baseline or progressive, RGB or grey; they are turned into the
network's input as by image_classification.py, which must give the same answers: the alpha of a PNG and the transparent
colour of a GIF are laid on white, and what is too large is an error before it is decoded. (What else that one reads,
CMYK, EXIF rotation and WebP, Pillow must turn into RGB first.) For TensorFlow Serving, the same is there as the
signature "serving_default", and without names and threshold, which have no row for each image, as "rows". The names of
the classes, the head and the image size are the checkpoint's; --dictionary names those of an older or published one.
The threshold is --threshold, or else the one that evaluate.py left beside the checkpoint, or else 0.5.
"""

import contextlib
from pathlib import Path
import shutil

from flags import FLAGS, given, run, script, use
from absl import logging

use("batch_norm_epsilon visiable_gpu")
script(__name__, __doc__, first="model_dir dictionary image_size head top_k_pred threshold", required="output_dir")

import tensorflow as tf

from data_processing.input_pipeline.graph_decode import decode
from data_processing.input_pipeline.transforms import evaluation_image
from evaluation import thresholds
from models import inference
from models.resnet import NetworkConfig
from utils.files import temporary_name

ENCODED = tf.TensorSpec([None], tf.string, name="image")
DEFAULT_THRESHOLD = 0.5


class Classifier(tf.Module):
    """A network from encoded images to its best classes, and to the scores of all."""

    def __init__(self, model, names, head, top_k, image_size, threshold=None):
        """Takes a network.

        Args:
          model: of `models.resnet`.
          names: by index.
          head: "softmax" or "sigmoid".
          top_k: number of the best classes.
          image_size: of the network's input, in pixels.
          threshold: probability from which on a class is to be named, or None.
        """
        super().__init__()
        self.model = model
        self.names = tf.Variable(names, trainable=False)
        self.activation = inference.ACTIVATIONS[head]
        self.top_k = min(top_k, len(names))
        self.image_size = image_size
        self.threshold = None if threshold is None else tf.Variable(threshold, trainable=False, dtype=tf.float32)

    @tf.function(input_signature=[ENCODED])
    def serve(self, image):
        """Returns what `rows` does, "names" [classes] and, if there is one, "threshold" []."""
        fixed = {"names": self.names.read_value()}
        if self.threshold is not None:
            fixed["threshold"] = self.threshold.read_value()
        return self._answers(image) | fixed

    @tf.function(input_signature=[ENCODED])
    def rows(self, image):
        """Returns "name", "score" (in [0, 1]) and "index", each [images, top_k], and "scores" [images, classes].

        `image` are encoded images, string [images].
        """
        return self._answers(image)

    def _answers(self, image):
        shape = tf.TensorSpec([self.image_size, self.image_size, 3], tf.float32)
        images = tf.map_fn(self._image, image, fn_output_signature=shape)
        # The network's kernels do not take an empty batch.
        scores = tf.cond(
            tf.size(image) > 0,
            lambda: self.activation(self.model(images, training=False)["logits"]),
            lambda: tf.zeros([0, self.names.shape[0]]),
        )
        score, index = tf.math.top_k(scores, self.top_k)
        return {"name": tf.gather(self.names, index), "score": score, "index": index, "scores": scores}

    def _image(self, encoded):
        return evaluation_image(decode(encoded), self.image_size)


def main(argv):
    del argv
    output = Path(FLAGS.output_dir)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"--output_dir={output} is not empty; name a new folder")
    network = inference.load(
        FLAGS.model_dir,
        NetworkConfig(batch_norm_epsilon=FLAGS.batch_norm_epsilon),
        dictionary_path=FLAGS.dictionary,
    )
    description, classes = network.description, network.classes
    head, why = inference.choose_head(FLAGS.head, description, classes and classes.ancestors is not None)
    size, says = inference.choose_image_size(given("image_size"), description, FLAGS.image_size)
    threshold, source = _threshold(network.prefix, head)
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    _save(Classifier(network.model, names, head, FLAGS.top_k_pred, size, threshold), output)
    print(
        f"written: {output}, ResNet-{description.resnet_size}, {len(names):,} classes, {head} head ({why}), for {size} "
        f"pixels ({says}), {source}"
    )
    if not classes:
        print(f"no names, only indices: {network.prefix} holds none; give them with --dictionary")


def _threshold(prefix, head):
    """Returns the threshold to export, or None, and the words for it."""
    if FLAGS["threshold"].present:
        return FLAGS.threshold, f"threshold {FLAGS.threshold:.4g} (--threshold)"
    if head != "sigmoid":
        return None, "no threshold"
    if stored := thresholds.read(prefix):
        return stored.threshold, f"threshold {stored.threshold:.4g} (best F1 on {stored.data_dir})"
    return DEFAULT_THRESHOLD, f"threshold {DEFAULT_THRESHOLD} (evaluate.py, which finds the best one, has stored none)"


def _save(classifier, output):
    """Writes the SavedModel, as a whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temp_path = temporary_name(output)
    signatures = {"serving_default": classifier.serve, "rows": classifier.rows}
    try:
        with _without_notes():
            tf.saved_model.save(classifier, str(temp_path), signatures=signatures)
        if output.exists():
            output.rmdir()
        temp_path.rename(output)
    finally:
        shutil.rmtree(temp_path, ignore_errors=True)


@contextlib.contextmanager
def _without_notes():
    """Warnings and errors are logged, but not the names of all weights, and where parts of the model are written to."""
    logger, verbosity = tf.get_logger(), logging.get_verbosity()
    level = logger.level
    logging.set_verbosity(logging.WARNING)
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logger.setLevel(level)


if __name__ == "__main__":
    run(main)
