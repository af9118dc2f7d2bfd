"""ResNet v2 as in the released checkpoints (He et al. 2016, "Identity Mappings in Deep Residual Networks").

It differs from other implementations, and published weights fit only this one: no max-pooling, stride 2 in the first
block of every stage (the first stage too), the stride in the 3x3 convolution of the main path, explicit padding before
a strided convolution, and a batch normalisation and ReLU of its own before a projecting shortcut.

Written with Keras layers alone, so that it runs on every backend of Keras. A layer's name is the scope of its variables
in the TensorFlow-1 checkpoints with "." for "/", which Keras does not allow (`models/checkpoint.py` translates).
"""

from typing import NamedTuple
import zlib

import keras
from keras import layers


class Depth(NamedTuple):
    """Blocks in each of the four stages, and whether a block is a bottleneck (three convolutions) or basic (two)."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


class _Style(NamedTuple):
    """What all layers share."""

    data_format: str
    policy: keras.DTypePolicy
    decay: float
    epsilon: float
    seed: int


# 50, 101 and 152 are released; 18, 34 and 200 are ours, in the same style (He et al. 2016, table 1 and section 5).
DEPTHS = {
    18: Depth((2, 2, 2, 2), False),
    34: Depth((3, 4, 6, 3), False),
    50: Depth((3, 4, 6, 3), True),
    101: Depth((3, 4, 23, 3), True),
    152: Depth((3, 8, 36, 3), True),
    200: Depth((3, 24, 36, 3), True),
}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def resolve_data_format(text):
    """Returns "channels_first" or "channels_last" for a flag's `text`, which may also be "NCHW" or "NHWC".

    Convolutions in channels_first exist for GPUs only. Without one it says so and returns channels_last: the weights
    and the results are the same. Raises ValueError for any other text.
    """
    names = {"NCHW": "channels_first", "NHWC": "channels_last"}
    data_format = names.get(text, text)
    if data_format not in names.values():
        raise ValueError(f"--data_format={text}: choose NCHW, NHWC, channels_first or channels_last")
    if data_format == "channels_first" and not keras.distribution.list_devices("gpu"):
        print(
            f"--data_format={text} needs a GPU and there is none: running in NHWC, with the same weights and results."
        )
        return "channels_last"
    return data_format


def build_resnet(
    resnet_size,
    class_num,
    *,
    data_format="channels_last",
    precision="float32",
    batch_norm_decay=0.997,
    batch_norm_epsilon=1e-5,
    seed=1234,
):
    """Builds the network with random weights.

    Args:
      resnet_size: 18, 34, 50, 101, 152 or 200.
      class_num: number of logits.
      data_format: layout inside the network, "channels_last" or "channels_first"; the input is NHWC in both.
      precision: "float32", "bfloat16" or "float16" for the activations; the weights are float32 in all three.
      batch_norm_decay, batch_norm_epsilon: of the moving averages, and added to the variance (released code).
      seed: of the initial weights. Each layer draws from the seed and its own name, so one layer's weights do not
        depend on which other layers there are.

    Returns:
      A functional model from RGB images float [batch, height, width, 3] in [-1, 1] to a dictionary with "feature",
      float32 [batch, 2048] (512 for sizes 18 and 34), and "logits", float32 [batch, class_num].
    """
    if resnet_size not in DEPTHS:
        raise ValueError(f"resnet_size {resnet_size}: choose one of {', '.join(map(str, DEPTHS))}")
    depth = DEPTHS[resnet_size]
    style = _Style(data_format, keras.DTypePolicy(POLICIES[precision]), batch_norm_decay, batch_norm_epsilon, seed)
    images = keras.Input((None, None, 3), name="images")
    x = images
    if data_format == "channels_first":
        x = layers.Permute((3, 1, 2), dtype=style.policy, name="channels_first")(x)
    x = _conv(x, "init.init_conv", 64, 7, 2, style)
    for stage, count in enumerate(depth.blocks):
        filters = (256 if depth.bottleneck else 64) * 2**stage
        for j in range(count):
            x = _block(x, f"stages_{stage}_block_{j}", filters, depth.bottleneck, j == 0, style)
    x = _bn_relu(x, "global_pool.bn", style)
    feature = layers.GlobalAveragePooling2D(data_format, dtype="float32", name="feature")(x)
    logits = layers.Dense(
        class_num,
        kernel_initializer=keras.initializers.GlorotUniform(_layer_seed(seed, "logits")),
        dtype="float32",
        name="logits",
    )(feature)
    return keras.Model(images, {"feature": feature, "logits": logits}, name=f"resnet_{resnet_size}")


def freeze(model, trained):
    """Leaves only the layers whose names begin with one of `trained`, a tuple of scopes, to be trained.

    The others keep their weights, and their batch normalisation its statistics, which it uses instead of the batch's.
    """
    for layer in model.layers:
        layer.trainable = layer.name.startswith(trained)


def _block(x, name, filters, bottleneck, first, style):
    """One residual block; the `first` of a stage halves the resolution and projects its shortcut."""
    strides = 2 if first else 1
    shortcut = x
    if first:
        shortcut = _conv(_bn_relu(x, f"{name}.conv1_b1_bn", style), f"{name}.conv1_b1", filters, 1, strides, style)
    if bottleneck:
        convolutions = [(filters // 4, 1, 1), (filters // 4, 3, strides), (filters, 1, 1)]
    else:
        convolutions = [(filters, 3, strides), (filters, 3, 1)]
    for n, (width, kernel_size, stride) in enumerate(convolutions, start=1):
        x = _bn_relu(x, f"{name}.conv{n}_b2_bn", style)
        x = _conv(x, f"{name}.conv{n}_b2", width, kernel_size, stride, style)
    return layers.Add(dtype=style.policy, name=f"{name}.add")([x, shortcut])


def _bn_relu(x, name, style):
    axis = 1 if style.data_format == "channels_first" else -1
    x = layers.BatchNormalization(axis, style.decay, style.epsilon, dtype=style.policy, name=name)(x)
    return layers.Activation("relu", dtype=style.policy, name=f"{name}_relu")(x)


def _conv(x, name, filters, kernel_size, strides, style):
    if strides > 1 and kernel_size > 1:
        # The same padding whatever the input's size: SAME would pad an even size only after it.
        before = (kernel_size - 1) // 2
        pad = (before, kernel_size - 1 - before)
        x = layers.ZeroPadding2D((pad, pad), style.data_format, dtype=style.policy, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="valid" if strides > 1 else "same",
        data_format=style.data_format,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            1.0, "fan_in", "truncated_normal", seed=_layer_seed(style.seed, name)
        ),
        dtype=style.policy,
        name=name,
    )(x)


def _layer_seed(seed, name):
    return zlib.crc32(f"{seed} {name}".encode())
