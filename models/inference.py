"""What a network says of images: the checkpoint it comes from, its features, logits or scores, from one crop or ten."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from data_processing.lists import dictionary
from models import checkpoint
from models.checkpoint import CheckpointError
from models.deeplab import DeepLabConfig, build_deeplab
from models.faster_rcnn import Detector, DetectorConfig, build_detector
from models.resnet import DEPTHS, NetworkConfig, build_resnet, resolve_data_format

CROPS = ("center", "10crop")
ACTIVATIONS = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}
# Networks without logits of whole images, by head, which is also the kind of their records; and the script of each.
OTHER_HEADS = {
    "boxes": "a detector, which finds objects and has no logits of whole images: object_detection.py",
    "masks": "a segmentation, which has logits of pixels, not of whole images: semantic_segmentation.py",
}


class Network(NamedTuple):
    """A network and where it comes from.

    Attributes:
      model: see `models.resnet.build_resnet`.
      description: the `checkpoint.Description`.
      prefix: of the checkpoint.
      classes: what its logits stand for, or None, where nothing says so.
    """

    model: keras.Model
    description: checkpoint.Description
    prefix: str
    classes: dictionary.Classes | None = None


class SegmenterNetwork(NamedTuple):
    """A network that says the class of each pixel, and where it comes from; the other attributes as of `Network`.

    Attributes:
      model: of `models.deeplab.build_deeplab`.
      config: its `DeepLabConfig`.
    """

    model: keras.Model
    config: DeepLabConfig
    description: checkpoint.Description
    prefix: str
    classes: dictionary.Classes | None = None


class DetectorNetwork(NamedTuple):
    """A detector and where it comes from; the other attributes as of `Network`.

    Attributes:
      detector: see `models.faster_rcnn.Detector`.
    """

    detector: Detector
    description: checkpoint.Description
    prefix: str
    classes: dictionary.Classes | None = None


def load(path, config=NetworkConfig(), expected=None, with_logits=True, dictionary_path=""):
    """Returns the `Network` that a checkpoint holds, whatever its depth and number of classes.

    Args:
      path: prefix of the checkpoint, or a folder, of which the newest is taken.
      config: `NetworkConfig`, with the data format as a user asks for it; see `models.resnet.resolve_data_format`.
      expected: dictionary from flag ("resnet_size", "class_num") to value, as the user believes it to be, or None.
      with_logits: False for who uses the features alone, and needs no logits: a network of boxes or masks has none, and
        gets some of random weights.
      dictionary_path: of its classes, as a user says, or "".

    Raises CheckpointError if there is none, if it has no logits, is not as expected, or its weights are not finite.
    """
    prefix, description, config = _found(path, config, expected)
    has_logits = description.class_num and description.head not in OTHER_HEADS
    if with_logits and description.head in OTHER_HEADS:
        raise CheckpointError(
            f"{prefix} is of {OTHER_HEADS[description.head]} is for it; or give the checkpoint of a classification"
        )
    if with_logits and not has_logits:
        raise CheckpointError(f"{prefix}: no variable logits/dense/kernel, so it classifies nothing; give another one")
    classes = classes_of(prefix, dictionary_path) if with_logits else None
    model = build_resnet(description.resnet_size, description.class_num if has_logits else 1, config)
    variables = checkpoint.model_variables(model)
    _restore(prefix, {n: v for n, v in variables.items() if has_logits or not n.startswith("logits/")})
    return Network(model, description, prefix, classes)


def load_detector(path, config=NetworkConfig(), proposals=300, expected=None, dictionary_path=""):
    """Returns the `DetectorNetwork` that a checkpoint holds, of its own depth, number of classes and anchors.

    Args:
      path, config, expected, dictionary_path: see `load`.
      proposals: looked at in an image, see `models.faster_rcnn.DetectorConfig`.

    Raises CheckpointError if there is none, if it is of no detector, not as expected, or its weights are not finite.
    """
    prefix, description, config = _found(path, config, expected)
    if description.head != "boxes":
        raise CheckpointError(
            f"{prefix} is of no detector; give the --model_dir of one, which finetune.py trains from this checkpoint "
            "on records of boxes"
        )
    detecting = DetectorConfig(proposals=proposals)
    if description.anchors:
        sizes = description.anchors.split(",")
        if not all(size.isdecimal() and int(size) for size in sizes):
            raise CheckpointError(f"{prefix}: its anchors, '{description.anchors}', are no sizes; take another one")
        detecting = detecting._replace(anchor_sizes=tuple(map(int, sizes)))
    detector = build_detector(description.resnet_size, description.class_num, config, detecting)
    _restore(prefix, checkpoint.model_variables(detector.model))
    return DetectorNetwork(detector, description, prefix, classes_of(prefix, dictionary_path))


def load_segmenter(path, config=NetworkConfig(), expected=None, dictionary_path=""):
    """Returns the `SegmenterNetwork` that a checkpoint holds, of its own depth, classes, output stride and decoder.

    Args: as of `load`.

    Raises CheckpointError if there is none, if it is of something else, not as expected, or its weights are not finite.
    """
    prefix, description, config = _found(path, config, expected)
    if description.head != "masks":
        raise CheckpointError(
            f"{prefix} is of no segmentation; give the --model_dir of one, which finetune.py trains from this "
            "checkpoint on records of masks"
        )
    kept = DeepLabConfig(description.output_stride or DeepLabConfig().output_stride, bool(description.decoder))
    model = build_deeplab(description.resnet_size, description.class_num, config, kept)
    _restore(prefix, checkpoint.model_variables(model))
    return SegmenterNetwork(model, kept, description, prefix, classes_of(prefix, dictionary_path))


def _found(path, config, expected):
    """Returns prefix and description of the checkpoint, which is as expected, and how this machine computes."""
    prefix = checkpoint.resolve(path)
    description = checkpoint.describe(prefix)
    for name, value in (expected or {}).items():
        held = getattr(description, name)
        if value not in (None, held):
            raise CheckpointError(
                f"--{name}={value}, but {prefix} has {name} {held}; leave --{name} out, or give another checkpoint"
            )
    if not description.resnet_size:
        raise CheckpointError(f"{prefix}: its blocks are those of none of the sizes {', '.join(map(str, DEPTHS))}")
    return prefix, description, config._replace(data_format=resolve_data_format(config.data_format))


def _restore(prefix, variables):
    """Restores the weights, which must be finite."""
    checkpoint.restore(prefix, variables)
    for name, variable in variables.items():
        if not np.isfinite(variable.numpy()).all():
            raise CheckpointError(f"{prefix}: {name} holds NaN or infinity: its training diverged; take an older one")


def classes_of(prefix, dictionary_path=""):
    """Returns the `dictionary.Classes` that the logits of a checkpoint stand for, or None if nothing says so.

    They are those that the checkpoint holds; those of older and published ones, which hold none, are of the dictionary
    that a user gives, `dictionary_path`, or of the dictionary.txt beside it. Raises CheckpointError if these are not
    its classes.
    """
    description = checkpoint.describe(prefix)
    path = dictionary_path or (None if description.dictionary else dictionary.beside(prefix))
    given = dictionary.load(path) if path else None
    if description.dictionary:
        classes = dictionary.parse(description.dictionary, f"{prefix}, its dictionary")
        if given and (difference := classes.difference(given)):
            raise CheckpointError(
                f"{path} is not of the classes of {prefix} ({difference}); leave --dictionary out: the checkpoint "
                "knows its names"
            )
        return classes
    if given and description.class_num and len(given.names) != description.class_num:
        raise CheckpointError(
            f"{path} has {len(given.names):,} classes and {prefix} {description.class_num:,}; give the dictionary "
            "that the checkpoint was trained with"
        )
    return given


def choose_head(asked, description, multi_label):
    """Returns the head of a network, "softmax" or "sigmoid", and what says so.

    Args:
      asked: --head, or None.
      description: the `checkpoint.Description`, which older and published checkpoints leave without a head.
      multi_label: whether the dictionary of its classes is that of multi-label images; None without a dictionary.

    Raises CheckpointError if the checkpoint says something else than is asked for.
    """
    if description.head and asked not in (None, description.head):
        raise CheckpointError(
            f"--head={asked}, but the checkpoint was trained with a {description.head} head; leave --head out"
        )
    if description.head:
        return description.head, "the checkpoint says so"
    if asked:
        return asked, "--head"
    if multi_label is None:
        return "softmax", "nothing says otherwise; --head changes it"
    kind, head = ("multi", "sigmoid") if multi_label else ("single", "softmax")
    return head, f"the dictionary is {kind}-label; --head changes it"


def choose_image_size(asked, description, default):
    """Returns the height and width of a network's input, in pixels, and what says so.

    Args:
      asked: --image_size, or None.
      description: the `checkpoint.Description`, which older and published checkpoints leave without a size.
      default: the size where neither says it.
    """
    if asked:
        return asked, "--image_size"
    if description.image_size:
        return description.image_size, "as it was trained"
    return default, "nothing says otherwise; --image_size changes it"


def apply(model, images, output):
    """Returns an output of a network, float32 [batch, width].

    Args:
      model: a `models.resnet` network, or what `models.frozen.fold` makes of it.
      images: [batch, height, width, 3], or [batch, crops, height, width, 3], of which the result is the mean over the
        crops. (The logits of the mean feature are the mean of the logits.)
      output: "feature" or "logits".
    """
    if len(images.shape) == 4:
        return model(images, training=False)[output]
    # One crop of all images after the other: ten times the time, but not ten times the memory.
    crops = images.shape[1]
    rows = tf.map_fn(
        lambda k: model(images[:, k], training=False)[output],
        tf.range(crops),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
    # In float64: a compiler makes a division by a constant a product, which in float32 would round differently.
    return tf.cast(tf.cast(tf.add_n(tf.unstack(rows, crops)), tf.float64) / crops, tf.float32)


def output_function(model, output, xla=False):
    """Returns the compiled function from images to an output of the network, see `apply`."""
    return _compiled(lambda images: apply(model, images, output), xla)


def _compiled(function, xla):
    """Returns a function of images, compiled once for each size of images, however many a batch has."""
    function = tf.function(function, autograph=False, jit_compile=xla)
    traced, most = {}, {}

    def call(images):
        images = tf.convert_to_tensor(images)
        rows, shape = images.shape[0], tuple(images.shape[1:])
        if shape not in traced:
            traced[shape] = function.get_concrete_function(tf.TensorSpec([None, *shape], images.dtype))
        if not xla:
            return traced[shape](images)
        # XLA would compile anew for the last batch: rows of 0 make it as large as the others.
        most[shape] = max(rows, most.get(shape, 0))
        return traced[shape](tf.pad(images, [[0, most[shape] - rows]] + [[0, 0]] * len(shape)))[:rows]

    return call


def score_function(model, head, ancestors=None, xla=False):
    """Returns the function from images [batch, height, width, 3] to scores in [0, 1], float32 [batch, classes].

    Args:
      model: as of `apply`.
      head: "softmax" or "sigmoid".
      ancestors: the ancestors of each class, to give each class the highest score among its own and its descendants'.
      xla: whether to compile with XLA.
    """
    activation = ACTIVATIONS[head]
    network = _compiled(lambda images: activation(model(images, training=False)["logits"]), xla)
    if not ancestors:
        return network
    # Pairs of a class and a member of its family, which is itself and its descendants, family after family.
    pairs = sorted((head_of, k) for k, above in enumerate(ancestors) for head_of in (k, *above))
    family, member = np.array(pairs).T
    first = np.searchsorted(family, np.arange(len(ancestors)))
    return lambda images: np.maximum.reduceat(network(images).numpy()[:, member], first, axis=1)


def images_at_once(batch_size, crop):
    """Returns how many images a batch should have so that its crops do not need ten times the memory."""
    return batch_size if crop == "center" else max(min(batch_size, 32), batch_size // 10)
