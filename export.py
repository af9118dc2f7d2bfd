"""Exports a checkpoint as a SavedModel with the preprocessing inside: encoded images in, names and scores out.

    python export.py --model_dir=out/caltech256/best --output_dir=exported

    model = tf.saved_model.load("exported")
    answers = model.serve(tf.constant([open("dog.jpg", "rb").read()]))
    answers["name"], answers["score"], answers["index"]       [1, 5] each, the best class first
    answers["scores"], answers["names"]                       [1, classes] and [classes], in the order of the indices
    answers["threshold"]                                      from which on a class is to be named; sigmoid heads only

Of a network that finds objects, of each image the 100 likeliest ones at most:

    answers["boxes"]                                          [1, 100, 4]: left, top, right, bottom, in its pixels
    answers["names"], answers["scores"], answers["classes"]   [1, 100] each, the likeliest first
    answers["counts"]                                         [1]: so many are there; the rest is 0, "" and class -1

Of a network of masks:

    answers["masks"]                                          [1, height, width]: the class of each pixel
    answers["sizes"], answers["names"]                        [1, 2]: height and width; [classes]

Of several images of different sizes, masks are padded at right and bottom with -1. Images of more than --max_pixels are
an error: semantic_segmentation.py sees them in tiles.

Images are JPEG, PNG, GIF (the first frame) or BMP, baseline or progressive, RGB or grey; they become the network's
input as by image_classification.py, object_detection.py and semantic_segmentation.py, which must give the same answers:
the alpha of a PNG and the transparent colour of a GIF are laid on white, and what is too large is an error before it is
decoded. (What else those read, CMYK, EXIF rotation and WebP, Pillow must turn into RGB first.) For TensorFlow Serving,
the same is there as the signature "serving_default", and without a classifier's names and threshold and the names of
masks, which have no row for each image, as "rows". The names of the classes, the head and the image size are the
checkpoint's; --dictionary names those of an older or published one. The threshold is --threshold, or else the one that
evaluate.py left beside the checkpoint, or else 0.5; of objects it is their least score, and 0 if it is not given.
"""

import contextlib
from pathlib import Path
import shutil

from flags import FLAGS, given, run, script, use
from absl import logging

use("batch_norm_epsilon visiable_gpu long_side proposals max_pixels")
FIRST = "model_dir dictionary image_size head top_k_pred threshold"
# Of masks: the network sees an image whole.
script(__name__, __doc__, first=FIRST, required="output_dir", defaults={"max_pixels": 1025**2})

import tensorflow as tf

from data_processing.input_pipeline import mask_transforms
from data_processing.input_pipeline.graph_decode import decode
from data_processing.input_pipeline.transforms import evaluation_image
from evaluation import thresholds
from models import checkpoint, inference, regions
from models.frozen import fold
from models.resnet import NetworkConfig
from tasks import detection_inference, segmentation
from utils.files import temporary_name

ENCODED = tf.TensorSpec([None], tf.string, name="image")
DEFAULT_THRESHOLD = 0.5


class Classifier(tf.Module):
    """A network from encoded images to its best classes, and to the scores of all."""

    def __init__(self, model, names, head, top_k, image_size, threshold=None):
        """Takes a network.

        Args:
          model: of `models.resnet`, folded, so that its weights are constants; see `fold`.
          names: by index.
          head: "softmax" or "sigmoid".
          top_k: number of the best classes.
          image_size: of the network's input, in pixels.
          threshold: probability from which on a class is to be named, or None.
        """
        super().__init__()
        self.names = tf.Variable(names, trainable=False)
        activation = inference.ACTIVATIONS[head]
        # Traced once, and called by both signatures, so that the weights are in the SavedModel once.
        scores = tf.function(lambda images: activation(model(images, training=False)["logits"]))
        self._scores = scores.get_concrete_function(tf.TensorSpec([None, image_size, image_size, 3]))
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
        none = tf.zeros([0, self.names.shape[0]])
        scores = tf.cond(tf.size(image) > 0, lambda: self._scores(images), lambda: none)
        score, index = tf.math.top_k(scores, self.top_k)
        return {"name": tf.gather(self.names, index), "score": score, "index": index, "scores": scores}

    def _image(self, encoded):
        return evaluation_image(decode(encoded), self.image_size)


class ObjectFinder(tf.Module):
    """A detector from encoded images to the objects in them."""

    def __init__(self, detector, names, sides, threshold=0.0):
        """Takes a detector.

        Args:
          detector: of `models.faster_rcnn`.
          names: by index.
          sides: `detection_inference.Sides`.
          threshold: least score.
        """
        super().__init__()
        self.model = detector.model
        self.names = tf.Variable([*names, ""], trainable=False)
        self.threshold = threshold
        self._fitted, self._find = detection_inference.transform(sides), detection_inference.finder(detector)

    @tf.function(input_signature=[ENCODED])
    def serve(self, image):
        """Returns what is in encoded images, string [images]; the likeliest objects first.

        "boxes" float32 [images, 100, 4], left, top, right, bottom in the image's pixels; "names" string, "scores"
        float32 and "classes" int32 [images, 100]; "counts" int32 [images], the rows that are filled.
        """
        most = [regions.DETECTIONS]
        types = {"boxes": tf.TensorSpec([*most, 4], tf.float32), "scores": tf.TensorSpec(most, tf.float32)}
        types["classes"] = tf.TensorSpec(most, tf.int32)
        # One image after the other, in its own size, so that none depends on the others, nor needs memory beside them.
        found = tf.map_fn(self._one, image, fn_output_signature=types, parallel_iterations=1)
        there = found["classes"] >= 0
        names = tf.gather(self.names, tf.where(there, found["classes"], self.names.shape[0] - 1))
        return found | {"names": names, "counts": tf.reduce_sum(tf.cast(there, tf.int32), axis=1)}

    def _one(self, encoded):
        batch = {name: value[None] for name, value in self._fitted(decode(encoded)).items()}
        found = {name: value[0] for name, value in self._find(batch).items()}
        kept = (found["classes"] >= 0) & (found["scores"] >= self.threshold)
        return {
            "boxes": tf.where(kept[:, None], found["boxes"], 0.0),
            "scores": tf.where(kept, found["scores"], 0.0),
            "classes": tf.where(kept, found["classes"], -1),
        }


class Segmenter(tf.Module):
    """A network of masks from encoded images to the class of each pixel."""

    def __init__(self, model, names, max_pixels):
        """Takes a network of `models.deeplab`, its classes' names, and how many pixels a padded image may have."""
        super().__init__()
        self.model = model
        self.names = tf.Variable(names, trainable=False)
        self.max_pixels = max_pixels

    @tf.function(input_signature=[ENCODED])
    def serve(self, image):
        """Returns what `rows` does, and "names" [classes]."""
        return self.rows(image) | {"names": self.names.read_value()}

    @tf.function(input_signature=[ENCODED])
    def rows(self, image):
        """Returns the masks of encoded images, string [images], each in its image's own size.

        "masks" int32 [images, height, width], the class of each pixel, and -1 beyond the image; "sizes" int32 [images,
        2], height and width of each. An image for which a score is not finite has a mask of -1.
        """
        types = {"masks": tf.RaggedTensorSpec([None, None], tf.int32), "sizes": tf.TensorSpec([2], tf.int32)}
        # One after the other, as above.
        found = tf.map_fn(self._one, image, fn_output_signature=types, parallel_iterations=1)
        return found | {"masks": found["masks"].to_tensor(-1)}

    def _one(self, encoded):
        image = decode(encoded)
        size = tf.shape(image)[:2]
        pixels = tf.reduce_prod(mask_transforms.padded_size(size))  # far below 2**31, or `decode` refuses it
        check = tf.debugging.assert_less_equal(pixels, self.max_pixels, "more pixels than --max_pixels at the export")
        with tf.control_dependencies([check]):
            scores = segmentation.look(self.model, mask_transforms.pad(image[None], size[None]))[0]
        mask = tf.argmax(scores, axis=-1, output_type=tf.int32)[: size[0], : size[1]]
        mask = tf.where(tf.reduce_all(tf.math.is_finite(scores)), mask, -1)
        return {"masks": tf.RaggedTensor.from_tensor(mask), "sizes": size}


def main(argv):
    del argv
    output = Path(FLAGS.output_dir)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"--output_dir={output} is not empty; name a new folder")
    config = NetworkConfig(batch_norm_epsilon=FLAGS.batch_norm_epsilon)
    head = checkpoint.describe(checkpoint.resolve(FLAGS.model_dir)).head
    exported, says, network = {"boxes": _object_finder, "masks": _segmenter}.get(head, _classifier)(config)
    _save(exported, output)
    print(f"written: {output}, {says}")
    if not network.classes:
        print(f"no names, only indices: {network.prefix} holds none; give them with --dictionary")


def _object_finder(network_config):
    """Returns what to export of a detector's checkpoint, the words for it, and the network."""
    network = inference.load_detector(
        FLAGS.model_dir, network_config, FLAGS.proposals, dictionary_path=FLAGS.dictionary
    )
    description, classes = network.description, network.classes
    sides = detection_inference.choose_sides(given("image_size"), given("long_side"), description)
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    threshold = FLAGS.threshold or 0.0
    says = (
        f"Faster R-CNN on ResNet-{description.resnet_size}, {len(names):,} classes, {sides.says}, "
        f"{FLAGS.proposals} proposals, score >= {threshold:.4g}"
    )
    return ObjectFinder(network.detector, names, sides, threshold), says, network


def _segmenter(network_config):
    """As `_object_finder`, of a checkpoint of masks."""
    network = inference.load_segmenter(FLAGS.model_dir, network_config, dictionary_path=FLAGS.dictionary)
    description, classes = network.description, network.classes
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    says = (
        f"DeepLab v3{'+' * network.config.decoder} on ResNet-{description.resnet_size}, {len(names):,} classes, output "
        f"stride {network.config.output_stride}, images of at most {FLAGS.max_pixels:,} pixels"
    )
    return Segmenter(fold(network.model), names, FLAGS.max_pixels), says, network


def _classifier(network_config):
    """Returns what to export of a classifier's checkpoint, the words for it, and the network."""
    network = inference.load(FLAGS.model_dir, network_config, dictionary_path=FLAGS.dictionary)
    description, classes = network.description, network.classes
    head, why = inference.choose_head(FLAGS.head, description, classes and classes.ancestors is not None)
    size, says = inference.choose_image_size(given("image_size"), description, FLAGS.image_size)
    threshold, source = _threshold(network.prefix, head)
    names = classes.names if classes else [str(k) for k in range(description.class_num)]
    says = (
        f"ResNet-{description.resnet_size}, {len(names):,} classes, {head} head ({why}), for {size} pixels ({says}), "
        f"{source}"
    )
    return Classifier(fold(network.model), names, head, FLAGS.top_k_pred, size, threshold), says, network


def _threshold(prefix, head):
    """Returns the threshold to export, or None, and the words for it."""
    if FLAGS["threshold"].present:
        return FLAGS.threshold, f"threshold {FLAGS.threshold:.4g} (--threshold)"
    if head != "sigmoid":
        return None, "no threshold"
    if stored := thresholds.read(prefix):
        return stored.threshold, f"threshold {stored.threshold:.4g} (best F1 on {stored.data_dir})"
    return DEFAULT_THRESHOLD, f"threshold {DEFAULT_THRESHOLD} (evaluate.py, which finds the best one, has stored none)"


def _save(exported, output):
    """Writes the SavedModel, as a whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temp_path = temporary_name(output)
    signatures = {"serving_default": exported.serve}
    if hasattr(exported, "rows"):
        signatures["rows"] = exported.rows
    try:
        with _without_notes():
            tf.saved_model.save(exported, str(temp_path), signatures=signatures)
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
