"""What a network says of images: the checkpoint it comes from, its features, logits or scores, from one crop or ten."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from models import checkpoint
from models.resnet import NetworkConfig, resolve_data_format

CROPS = ("center", "10crop")
ACTIVATIONS = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}


class Network(NamedTuple):
    """A network and where it comes from.

    Attributes:
      model: see `models.resnet.build_resnet`.
      description: the `checkpoint.Description`.
      prefix: of the checkpoint.
    """

    model: keras.Model
    description: checkpoint.Description
    prefix: str


def load(path, config=NetworkConfig(), expected=None, with_logits=True):
    """Returns the `Network` of a checkpoint.

    Args:
      path: prefix of the checkpoint, or a folder, of which the newest is taken.
      config: `NetworkConfig`, with the data format as a user asks for it; see `models.resnet.resolve_data_format`.
      expected, with_logits: see `checkpoint.load_model`.

    Raises CheckpointError if there is none, or if it is not as expected.
    """
    prefix = checkpoint.resolve(path)
    config = config._replace(data_format=resolve_data_format(config.data_format))
    return Network(*checkpoint.load_model(prefix, config, expected, with_logits), prefix)


def choose_head(asked, description, multi_label):
    """Returns the head of a network, "softmax" or "sigmoid", and what says so.

    Args:
      asked: --head, or None.
      description: the `checkpoint.Description`, which older and published checkpoints leave without a head.
      multi_label: whether the dictionary of its classes is that of multi-label images.
    """
    if asked:
        return asked, "--head"
    if description.head:
        return description.head, "the checkpoint says so; --head changes it"
    kind, head = ("multi", "sigmoid") if multi_label else ("single", "softmax")
    return head, f"the dictionary is {kind}-label; --head changes it"


def apply(model, images, output):
    """Returns an output of a network, float32 [batch, width].

    Args:
      model: a `models.resnet` network.
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
    return tf.function(lambda images: apply(model, images, output), reduce_retracing=True, jit_compile=xla)


def score_function(model, head, ancestors=None, xla=False):
    """Returns the function from images [batch, height, width, 3] to scores in [0, 1], float32 [batch, classes].

    Args:
      model: a `models.resnet` network.
      head: "softmax" or "sigmoid".
      ancestors: the ancestors of each class, to give each class the highest score among its own and its descendants'.
      xla: whether to compile with XLA.
    """
    activation = ACTIVATIONS[head]
    network = tf.function(
        lambda images: activation(model(images, training=False)["logits"]), reduce_retracing=True, jit_compile=xla
    )
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
