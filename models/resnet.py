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
    """What a size of the network is.

    Attributes:
      blocks: in each of the four stages.
      bottleneck: whether a block is a bottleneck (three convolutions) or basic (two).
      width: channels that leave the first stage; each later one has twice as many.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int


class NetworkConfig(NamedTuple):
    """How a network computes; see the flags of the same names.

    Attributes:
      data_format: layout inside the network, "channels_last" or "channels_first"; the input is NHWC in both.
      precision: "float32", "bfloat16" or "float16" for the activations; the weights are float32 in all three.
      batch_norm_decay, batch_norm_epsilon: of the moving averages, and added to the variance (released code).
    """

    data_format: str | None = "channels_last"
    precision: str = "float32"
    batch_norm_decay: float | None = 0.997
    batch_norm_epsilon: float = 1e-5


class Style(NamedTuple):
    """What all layers share, see `NetworkConfig`; `seed` is of the initial weights."""

    data_format: str
    policy: keras.DTypePolicy
    decay: float
    epsilon: float
    seed: int


# 50, 101 and 152 are released; 18, 34 and 200 are ours, in the same style (He et al. 2016, table 1 and section 5). 10
# is for tests and trials: all that the others have, in 0.3 million values.
DEPTHS = {
    10: Depth((1, 1, 1, 1), False, 16),
    18: Depth((2, 2, 2, 2), False, 64),
    34: Depth((3, 4, 6, 3), False, 64),
    50: Depth((3, 4, 6, 3), True, 256),
    101: Depth((3, 4, 23, 3), True, 256),
    152: Depth((3, 8, 36, 3), True, 256),
    200: Depth((3, 24, 36, 3), True, 256),
}
STAGES = 4
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Stride and dilation of each stage, by the stride of the whole network's output. Where a stage does not halve the
# resolution, what comes after its first convolution is dilated twice as far instead, so that it sees the same pixels
# (Chen et al. 2017, "Rethinking Atrous Convolution", section 3.1).
STRIDES = {
    32: ((2, 1), (2, 1), (2, 1), (2, 1)),
    16: ((2, 1), (2, 1), (2, 1), (1, 2)),
    8: ((2, 1), (2, 1), (1, 2), (1, 4)),
}


def resolve_data_format(text):
    """Returns "channels_first" or "channels_last" for a flag's `text`, which may also be "NCHW" or "NHWC".

    Convolutions in channels_first exist for GPUs only. Without one it says so and returns channels_last: the weights
    and the results are the same. None is what suits the machine. Raises ValueError for any other text.
    """
    if text is None:
        return "channels_first" if keras.distribution.list_devices("gpu") else "channels_last"
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


def build_resnet(resnet_size, class_num, config=NetworkConfig(), output_stride=32, multi_grid=(), seed=1234):
    """Builds the network with random weights.

    Args:
      resnet_size: one of `DEPTHS`.
      class_num: number of logits.
      config: a `NetworkConfig`.
      output_stride: 32, or 16 or 8, where the last stages are dilated instead of strided: pixels of the input to one of
        what leaves the network. The weights are the same.
      multi_grid: how many times further still the blocks of the last stage are dilated, if it is; blocks beyond them,
        not at all.
      seed: of the initial weights. Each layer draws from the seed and its own name, so one layer's weights do not
        depend on which other layers there are.

    Returns:
      A functional model from RGB images float [batch, height, width, 3] in [-1, 1] to a dictionary with

        stages_0 … stages_3: what leaves each stage, before the next normalisation: [batch, height / stride, width /
          stride, channels], strides 4, 8, 16 and 32, or as `output_stride` says; in the layout and precision of
          `config`. The channels are `width` times 1, 2, 4 and 8, see `Depth`.
        feature: float32 [batch, 2048] (512 for 18 and 34), the mean over the last stage's normalised pixels.
        logits: float32 [batch, class_num].
    """
    depth, style = _depth(resnet_size), style_of(config, seed)
    if output_stride not in STRIDES:
        raise ValueError(f"--output_stride={output_stride}: choose one of {', '.join(map(str, STRIDES))}")
    images = keras.Input((None, None, 3), name="images")
    x = images
    if config.data_format == "channels_first":
        x = layers.Permute((3, 1, 2), dtype=style.policy, name="channels_first")(x)
    x = _conv(x, "init.init_conv", (64, 7), style, strides=2)
    outputs = {}
    for stage, (strides, dilation) in enumerate(STRIDES[output_stride]):
        grid = multi_grid if stage == STAGES - 1 and dilation > 1 else ()
        x = _stage(x, stage, depth, strides, (dilation, grid), style)
        outputs[f"stages_{stage}"] = x
    outputs["feature"] = _feature(x, style)
    outputs["logits"] = layers.Dense(
        class_num,
        kernel_initializer=keras.initializers.GlorotUniform(layer_seed(seed, "logits")),
        dtype="float32",
        name="logits",
    )(outputs["feature"])
    return keras.Model(images, outputs, name=f"resnet_{resnet_size}")


def build_last_stage(resnet_size, config=NetworkConfig(), strides=1, seed=1234):
    """Builds the last stage alone, to be run on crops of what leaves the stage before it (Faster R-CNN's "C4" head).

    Args as of `build_resnet`, and `strides` of its first block. Names and initial weights of the layers are those of
    the whole network, so that `checkpoint.model_variables` finds them in the same checkpoints.

    Returns a functional model from [regions, height, width, channels] (`stages_2` of the network; in its layout) to a
    dictionary with "stages_3", [regions, height / strides, width / strides, 2 * channels], and "feature".
    """
    depth, style = _depth(resnet_size), style_of(config, seed)
    channels = depth.width * 2 ** (STAGES - 2)
    shape = (channels, None, None) if config.data_format == "channels_first" else (None, None, channels)
    crops = keras.Input(shape, name="crops", dtype=style.policy.compute_dtype)
    x = _stage(crops, STAGES - 1, depth, strides, (1, ()), style)
    return keras.Model(crops, {"stages_3": x, "feature": _feature(x, style)}, name=f"resnet_{resnet_size}_last_stage")


def _depth(resnet_size):
    if resnet_size not in DEPTHS:
        raise ValueError(f"--resnet_size={resnet_size}: choose one of {', '.join(map(str, DEPTHS))}")
    return DEPTHS[resnet_size]


def style_of(config, seed):
    """Returns the `Style` of a `NetworkConfig`."""
    policy = keras.DTypePolicy(POLICIES[config.precision])
    return Style(config.data_format, policy, config.batch_norm_decay, config.batch_norm_epsilon, seed)


def train_only(model, scopes):
    """Freezes all layers but those whose names begin with one of `scopes`, a tuple.

    Frozen ones keep their weights, and their batch normalisation its statistics, which it uses instead of the batch's.
    """
    for layer in model.layers:
        layer.trainable = layer.name.startswith(scopes)


def _stage(x, stage, depth, strides, dilations, style):
    """All blocks of a stage, the first of which halves the resolution if `strides` is 2.

    `dilations` are that of the stage, and how many times further its first blocks are dilated.
    """
    dilation, grid = dilations
    for j in range(depth.blocks[stage]):
        # What comes before a missing stride is dilated as far as the stage before was, and what comes after it twice
        # that.
        before = max(1, dilation // 2) if j == 0 else dilation
        further = grid[j] if j < len(grid) else 1
        x = _block(x, (stage, j), depth, strides if j == 0 else 1, (before * further, dilation * further), style)
    return x


def _block(x, place, depth, strides, dilations, style):
    """One residual block; `place` is its stage and its number there. The first of a stage projects its shortcut.

    `dilations` are those of the convolution that may have the stride, and of a basic block's other one.
    """
    stage, j = place
    before, after = dilations
    name, filters = f"stages_{stage}_block_{j}", depth.width * 2**stage
    shortcut = x
    if j == 0:
        shortcut = _conv(bn_relu(x, f"{name}.conv1_b1_bn", style), f"{name}.conv1_b1", (filters, 1), style, strides)
    if depth.bottleneck:
        convolutions = [(filters // 4, 1, 1, 1), (filters // 4, 3, strides, before), (filters, 1, 1, 1)]
    else:
        convolutions = [(filters, 3, strides, before), (filters, 3, 1, after)]
    for n, (width, kernel_size, stride, rate) in enumerate(convolutions, start=1):
        x = bn_relu(x, f"{name}.conv{n}_b2_bn", style)
        x = _conv(x, f"{name}.conv{n}_b2", (width, kernel_size), style, stride, rate)
    return layers.Add(dtype=style.policy, name=f"{name}.add")([x, shortcut])


def _feature(x, style):
    x = bn_relu(x, "global_pool.bn", style)
    return layers.GlobalAveragePooling2D(style.data_format, dtype="float32", name="feature")(x)


def bn_relu(x, name, style):
    """Returns `x` after the batch normalisation `name`, and ReLU."""
    x = layers.BatchNormalization(
        channels_axis(style.data_format), style.decay, style.epsilon, dtype=style.policy, name=name
    )(x)
    return layers.Activation("relu", dtype=style.policy, name=f"{name}_relu")(x)


def _conv(x, name, shape, style, strides=1, dilation=1):
    """A convolution without bias; `shape` is its number of filters and the side of its kernel."""
    filters, kernel_size = shape
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
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            1.0, "fan_in", "truncated_normal", seed=layer_seed(style.seed, name)
        ),
        dtype=style.policy,
        name=name,
    )(x)


def channels_axis(data_format):
    """Returns the axis of the channels of a map [batch, …]."""
    return 1 if data_format == "channels_first" else -1


def layer_seed(seed, name):
    """Returns the seed of a layer's initial weights, from that of the network and the layer's own name."""
    return zlib.crc32(f"{seed} {name}".encode())
