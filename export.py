"""Exports a checkpoint as a SavedModel with the preprocessing inside: encoded images in, names and scores out.

    python export.py --model_dir=out/caltech256/best --output_dir=exported

    model = tf.saved_model.load("exported")
    found = model.serve(tf.constant([open("dog.jpg", "rb").read()]))
    found["name"], found["score"], found["index"]          [1, 5] each, the best class first

Images are JPEG, PNG, GIF (the first frame) or BMP, baseline or progressive, RGB or grey; they are turned into the
network's input as by image_classification.py, which must give the same answers: the alpha of a PNG is laid on white,
and what is too large is an error before it is decoded. (What else that one reads, CMYK, EXIF rotation, transparent GIFs
and WebP, Pillow must turn into RGB first.) The same signature is there as "serving_default" for TensorFlow Serving. The
names of the classes are those of --dictionary, or of the dictionary.txt beside the checkpoint.
"""

from pathlib import Path
import shutil

from flags import FLAGS, checked
from absl import app, flags
import tensorflow as tf

from data_processing.images.image_files import MAX_PIXELS
from data_processing.input_pipeline.transforms import MAX_ASPECT_RATIO, decode_jpeg, evaluation_image
from data_processing.lists import dictionary
from models import checkpoint
from utils.files import temporary_name


class Classifier(tf.Module):
    """A network from encoded images to its best classes."""

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


def decode(encoded):
    """Returns an encoded image, string [], as RGB uint8 [height, width, 3], in the graph what `images.decode` does.

    An error of the operation if it is none of the four formats, is damaged, has more than MAX_PIXELS, or is more than
    MAX_ASPECT_RATIO times as long as wide.
    """

    def begins(magic):
        # (26 bytes hold all that is read of a header below.)
        return (tf.strings.length(encoded) >= 26) & (tf.strings.substr(encoded, 0, len(magic)) == magic)

    def within_limits(at, dtype, little_endian):
        """`encoded`, once width and height, which stand at byte `at`, are known to be within the limits."""
        size = tf.strings.substr(encoded, at, 2 * dtype.size)
        size = tf.abs(tf.cast(tf.io.decode_raw(size, dtype, little_endian=little_endian), tf.int64))
        pixels, longest = tf.reduce_prod(size), tf.constant(MAX_ASPECT_RATIO, tf.int64) * tf.reduce_min(size)
        limits = [
            tf.debugging.assert_less_equal(pixels, tf.constant(MAX_PIXELS, tf.int64), "too many pixels"),
            tf.debugging.assert_less_equal(
                tf.reduce_max(size), longest, f"over {MAX_ASPECT_RATIO} times as long as wide"
            ),
        ]
        with tf.control_dependencies(limits):
            return tf.identity(encoded)

    def png():
        header_read = within_limits(16, tf.int32, little_endian=False)
        return tf.cond(
            _has_alpha(header_read),
            lambda: _on_white(tf.io.decode_png(header_read, channels=4)),
            lambda: tf.io.decode_png(header_read, channels=3),
        )

    def gif():
        # (decode_gif would give all frames.)
        header_read = within_limits(6, tf.uint16, little_endian=True)
        return tf.io.decode_image(header_read, channels=3, expand_animations=False)

    def bmp():
        # (A negative height stands for rows from the top.)
        return tf.io.decode_bmp(within_limits(18, tf.int32, little_endian=True), channels=3)

    def others():
        with tf.control_dependencies([tf.debugging.Assert(False, ["neither JPEG, PNG, GIF nor BMP, or truncated"])]):
            return tf.zeros([0, 0, 3], tf.uint8)

    formats = [(tf.io.is_jpeg(encoded), lambda: decode_jpeg(encoded))]
    formats += [(begins(b"\x89PNG"), png), (begins(b"GIF8"), gif), (begins(b"BM"), bmp)]
    return tf.ensure_shape(tf.case(formats, default=others), [None, None, 3])


def _has_alpha(png):
    """Whether a PNG, string [], has an alpha channel, or transparent colours that Pillow heeds."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(png, 24, 2), tf.uint8), tf.int32)
    depth, colour_type = header[0], header[1]
    before_pixels = tf.strings.split(png, "IDAT", maxsplit=1)[0]
    transparent = tf.size(tf.strings.split(before_pixels, "tRNS")) > 1
    # Of grey (0) Pillow heeds it with 8 bits only. (Asked for alpha where there is none, decode_png would be wrong for
    # fewer bits: their greatest number, 1 to 15, becomes the alpha.)
    return (colour_type == 4) | (colour_type == 6) | (transparent & ((colour_type != 0) | (depth == 8)))


def _on_white(image):
    """RGB of an RGBA image, uint8 [height, width, 4], laid on white and rounded, as by Pillow."""
    # 16 bits hold 255 * 255 + 127, and half as much memory as 32.
    image = tf.cast(image, tf.uint16)
    colour, alpha = image[..., :3], image[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


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
    temp_path = temporary_name(output)
    try:
        tf.saved_model.save(classifier, str(temp_path), signatures=classifier.serve)
        if output.exists():
            output.rmdir()
        temp_path.rename(output)
    finally:
        shutil.rmtree(temp_path, ignore_errors=True)
    print(
        f"written: {output}, ResNet-{description.resnet_size}, {len(names):,} classes, {head} head, for "
        f"{FLAGS.image_size} pixels"
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["output_dir"])
    app.run(checked(main))
