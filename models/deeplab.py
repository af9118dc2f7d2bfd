"""DeepLab v3 and v3+ (Chen et al. 2017, 2018) on the ResNet of `models/resnet.py`, with that network's weights.

The network's last stages are dilated instead of strided. What leaves the last one goes through the network's own last
batch normalisation and ReLU (it is a pre-activation network), and then through parallel convolutions of several
dilations (ASPP). The decoder of v3+ adds what leaves the first stage, at stride 4, through the first batch
normalisation and ReLU of the next stage's main path, for the same reason.
"""

from typing import NamedTuple

import keras
from keras import layers
import tensorflow as tf

from models.resnet import NetworkConfig, bn_relu, build_resnet, channels_axis, layer_seed, style_of

# Of the convolutions of ASPP at output stride 16 (twice as much at 8), and of the blocks of the last stage (section 4).
RATES, MULTI_GRID = (6, 12, 18), (1, 2, 4)
CHANNELS, LOW_LEVEL_CHANNELS = 256, 48
LOW_LEVEL = "stages_1_block_0.conv1_b2_bn_relu"
# Scopes of the variables that a classification network has not.
NEW_SCOPES = ("aspp/", "decoder/", "segmentation/")


class DeepLabConfig(NamedTuple):
    """How finely a network sees; see the flags of the same names.

    Attributes:
      output_stride: pixels of the image to a cell of the last stage, 8, 16 or 32 (nothing dilated).
      decoder: whether it has the decoder of v3+.
    """

    output_stride: int = 16
    decoder: bool = False


class Enlarge(layers.Layer):
    """Bilinear interpolation of a map to the height and width of another, float32; corner cells stay in the corners.

    The network's padding puts a cell's centre in the pixel of its number times the stride, so that for images whose
    sides are 1 more than a multiple of the stride each value stays where it is.
    """

    def __init__(self, data_format, **kwargs):
        super().__init__(**kwargs)
        self._channels_first = data_format == "channels_first"

    def call(self, x, like):
        if not self._channels_first:
            return enlarged(x, tf.shape(like)[1:3])
        return tf.transpose(enlarged(tf.transpose(x, [0, 2, 3, 1]), tf.shape(like)[2:]), [0, 3, 1, 2])

    def compute_output_shape(self, x_shape, like_shape):
        channels = 1 if self._channels_first else 3
        return tuple(x_shape[k] if k in (0, channels) else like_shape[k] for k in range(4))


def enlarged(x, size):
    """Returns `x` [batch, height, width, channels] in another size, int32 [2], float32; see `Enlarge`."""
    return tf.raw_ops.ResizeBilinear(images=tf.cast(x, tf.float32), size=size, align_corners=True)


def build_deeplab(resnet_size, class_num, network=NetworkConfig(), config=DeepLabConfig(), seed=1234):
    """Builds the network with random weights.

    Args:
      resnet_size: one of `models.resnet.DEPTHS`.
      class_num: number of classes, the background included.
      network: a `NetworkConfig`.
      config: a `DeepLabConfig`.
      seed: of the initial weights, see `models.resnet.build_resnet`.

    Returns a functional model named "resnet_<size>" from images, float [batch, height, width, 3] in [-1, 1], to logits,
    float32 [batch, height / s, width / s, class_num], rounded up; s is `output_stride`, or 4 with the decoder. Its
    variables have the names of a classification network's without "logits", and of `NEW_SCOPES`.
    """
    whole = build_resnet(resnet_size, 1, network, config.output_stride, MULTI_GRID, seed=seed)
    style = style_of(network, seed)
    x = _aspp(whole.get_layer("global_pool.bn_relu").output, config.output_stride, style)
    if config.decoder:
        x = _decoder(x, whole.get_layer(LOW_LEVEL).output, style)
    x = layers.Conv2D(
        class_num,
        1,
        data_format=network.data_format,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01, seed=layer_seed(seed, "segmentation")),
        dtype="float32",
        name="segmentation.logits",
    )(x)
    if network.data_format == "channels_first":
        x = layers.Permute((2, 3, 1), dtype="float32", name="channels_last")(x)
    return keras.Model(whole.input, x, name=whole.name)


def freeze_batch_norm(model):
    """Freezes the batch normalisation that comes with a checkpoint; it uses its moving statistics in training, too."""
    for layer in model.layers:
        new = layer.name.replace(".", "/").startswith(NEW_SCOPES)
        if isinstance(layer, layers.BatchNormalization) and not new:
            layer.trainable = False


def _aspp(x, output_stride, style):
    """Chen et al. 2017, section 3.3: the map through convolutions of several dilations, and its mean."""
    data_format = style.data_format
    mean = layers.GlobalAveragePooling2D(data_format, keepdims=True, dtype=style.policy, name="aspp.mean")(x)
    mean = _conv_bn_relu(mean, "aspp.image", (CHANNELS, 1), style)
    branches = [_conv_bn_relu(x, "aspp.point", (CHANNELS, 1), style)]
    for k, rate in enumerate(RATES):
        branches.append(_conv_bn_relu(x, f"aspp.dilated_{k}", (CHANNELS, 3), style, max(1, rate * 16 // output_stride)))
    branches.append(Enlarge(data_format, dtype=style.policy, name="aspp.enlarged")(mean, branches[0]))
    return _conv_bn_relu(_joined(branches, "aspp.joined", style), "aspp.projection", (CHANNELS, 1), style)


def _decoder(x, low_level, style):
    """Chen et al. 2018, section 3.1."""
    low_level = _conv_bn_relu(low_level, "decoder.low_level", (LOW_LEVEL_CHANNELS, 1), style)
    x = Enlarge(style.data_format, dtype=style.policy, name="decoder.enlarged")(x, low_level)
    x = _joined([x, low_level], "decoder.joined", style)
    for k in range(2):
        x = _conv_bn_relu(x, f"decoder.conv_{k}", (CHANNELS, 3), style)
    return x


def _joined(maps, name, style):
    return layers.Concatenate(channels_axis(style.data_format), dtype=style.policy, name=name)(maps)


def _conv_bn_relu(x, name, shape, style, dilation=1):
    filters, kernel_size = shape
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        data_format=style.data_format,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_in", "truncated_normal", seed=layer_seed(style.seed, name)
        ),
        dtype=style.policy,
        name=name,
    )(x)
    return bn_relu(x, f"{name}_bn", style)
