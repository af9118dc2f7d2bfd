"""Exports a checkpoint as a SavedModel with the preprocessing inside: encoded pictures in, names and scores out.

    python export.py --model_dir=out/caltech256/best --output_dir=exported

    model = tf.saved_model.load("exported")
    found = model.serve(tf.constant([open("dog.jpg", "rb").read()]))
    found["name"], found["score"], found["index"]          [1, 5] each, the best class first

Pictures are JPEG, PNG, GIF (the first frame) or BMP, baseline or progressive, RGB or grey; they are turned into the
network's input as by image_classification.py, which must give the same answers. (What else that one reads, CMYK, EXIF
rotation and WebP, Pillow must turn into RGB first.) The same signature is there as "serving_default" for TensorFlow
Serving. The names of the classes are those of --dictionary, or of the dictionary.txt beside the checkpoint.
"""

from pathlib import Path
import shutil

from flags import FLAGS, checked
from absl import app, flags
import tensorflow as tf

from data_processing import dictionary
from data_processing.files import temporary_name
from data_processing.image_preprocessing import decode_jpeg, evaluation_image
from models import checkpoint

flags.DEFINE_string("output_dir", None, "Folder of the SavedModel.")


class Classifier(tf.Module):
    """A network from encoded pictures to its best classes."""

    def __init__(self, model, names, head, top_k, image_size):
        """Args: a `models.resnet` network, names by index, "softmax" or "sigmoid", how many classes, and pixels."""
        super().__init__()
        self.model = model
        self.names = tf.Variable(names, trainable=False)
        self.activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[head]
        self.top_k = min(top_k, len(names))
        self.image_size = image_size

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def serve(self, image):
        """Returns "name", "score" (in [0, 1]) and "index", each [pictures, top_k], of encoded pictures, string [n]."""
        shape = tf.TensorSpec([self.image_size, self.image_size, 3], tf.float32)
        images = tf.map_fn(self._picture, image, fn_output_signature=shape)
        scores = self.activation(self.model(images, training=False)["logits"])
        score, index = tf.math.top_k(scores, self.top_k)
        return {"name": tf.gather(self.names, index), "score": score, "index": index}

    def _picture(self, encoded):
        decoded = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: decode_jpeg(encoded),
            lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
        )
        return evaluation_image(tf.ensure_shape(decoded, [None, None, 3]), self.image_size)


def main(argv):
    del argv
    path = FLAGS.dictionary or dictionary.beside(FLAGS.model_dir)
    if not path:
        raise ValueError("--dictionary is missing; give the dictionary that the network's classes come from")
    names = dictionary.read_names(path)
    output = Path(FLAGS.output_dir)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"--output_dir={output} is not empty; name a new folder")
    model, description = checkpoint.load_model(FLAGS.model_dir, batch_norm_epsilon=FLAGS.batch_norm_epsilon)
    if len(names) != description.class_num:
        raise ValueError(f"{path} has {len(names):,} classes and the checkpoint {description.class_num:,}")
    head = FLAGS.head or ("sigmoid" if dictionary.is_multi_label(path) else "softmax")
    classifier = Classifier(model, names, head, FLAGS.top_k_pred, FLAGS.image_size)
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary_name(output)
    try:
        tf.saved_model.save(classifier, str(aside), signatures=classifier.serve)
        if output.exists():
            output.rmdir()
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(
        f"written: {output}, ResNet-{description.resnet_size}, {len(names):,} classes, {head} head, for "
        f"{FLAGS.image_size} pixels"
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["output_dir"])
    app.run(checked(main))
