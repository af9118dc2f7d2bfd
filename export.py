"""Exports a checkpoint as a SavedModel with the preprocessing inside: encoded images in, names and scores out.

    python export.py --model_dir=out/caltech256/best --output_dir=exported

    model = tf.saved_model.load("exported")
    answers = model.serve(tf.constant([open("dog.jpg", "rb").read()]))
    answers["name"], answers["score"], answers["index"]          [1, 5] each, the best class first

Images are JPEG, PNG, GIF (the first frame) or BMP, baseline or progressive, RGB or grey; they are turned into the
network's input as by image_classification.py, which must give the same answers: the alpha of a PNG and the transparent
colour of a GIF are laid on white, and what is too large is an error before it is decoded. (What else that one reads,
CMYK, EXIF rotation and WebP, Pillow must turn into RGB first.) The same signature is there as "serving_default" for
TensorFlow Serving. The names of the classes are those of --dictionary, or of the dictionary.txt beside the checkpoint.
"""

from pathlib import Path
import shutil

from flags import FLAGS, run, script, use

use("batch_norm_epsilon visiable_gpu")
script(__name__, __doc__, first="model_dir dictionary image_size head top_k_pred", required="output_dir")

import tensorflow as tf

from data_processing.input_pipeline.graph_decode import decode
from data_processing.input_pipeline.transforms import evaluation_image
from data_processing.lists import dictionary
from models import inference
from models.resnet import NetworkConfig
from utils.files import temporary_name


class Classifier(tf.Module):
    """A network from encoded images to its best classes."""

    def __init__(self, model, names, head, top_k, image_size):
        """Args: a `models.resnet` network, names by index, "softmax" or "sigmoid", how many classes, and pixels."""
        super().__init__()
        self.model = model
        self.names = tf.Variable(names, trainable=False)
        self.activation = inference.ACTIVATIONS[head]
        self.top_k = min(top_k, len(names))
        self.image_size = image_size

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def serve(self, image):
        """Returns "name", "score" (in [0, 1]) and "index", each [images, top_k], of encoded images, string [n]."""
        shape = tf.TensorSpec([self.image_size, self.image_size, 3], tf.float32)
        images = tf.map_fn(self._image, image, fn_output_signature=shape)
        # The network's kernels do not take an empty batch.
        scores = tf.cond(
            tf.size(image) > 0,
            lambda: self.activation(self.model(images, training=False)["logits"]),
            lambda: tf.zeros([0, self.names.shape[0]]),
        )
        score, index = tf.math.top_k(scores, self.top_k)
        return {"name": tf.gather(self.names, index), "score": score, "index": index}

    def _image(self, encoded):
        return evaluation_image(decode(encoded), self.image_size)


def main(argv):
    del argv
    path = FLAGS.dictionary or dictionary.beside(FLAGS.model_dir)
    if not path:
        raise ValueError("--dictionary is missing; give the dictionary that the network's classes come from")
    names = dictionary.read_names(path)
    output = Path(FLAGS.output_dir)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"--output_dir={output} is not empty; name a new folder")
    model, description, _ = inference.load(FLAGS.model_dir, NetworkConfig(batch_norm_epsilon=FLAGS.batch_norm_epsilon))
    if len(names) != description.class_num:
        raise ValueError(f"{path} has {len(names):,} classes and the checkpoint {description.class_num:,}")
    head, why = inference.choose_head(FLAGS.head, description, dictionary.is_multi_label(path))
    classifier = Classifier(model, names, head, FLAGS.top_k_pred, FLAGS.image_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    temp_path = temporary_name(output)
    try:
        tf.saved_model.save(classifier, str(temp_path), signatures=classifier.serve)
        if output.exists():
            output.rmdir()
        temp_path.rename(output)
    finally:
        shutil.rmtree(temp_path, ignore_errors=True)
    print(
        f"written: {output}, ResNet-{description.resnet_size}, {len(names):,} classes, {head} head ({why}), "
        f"for {FLAGS.image_size} pixels"
    )


if __name__ == "__main__":
    run(main)
