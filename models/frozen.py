"""A network for inference alone: weights become constants, and batch normalisation is folded into convolutions.

A batch normalisation that follows a convolution is a factor and an offset of its filters: the kernel takes the factor,
and the offset becomes a bias, which TensorFlow computes with the ReLU in the convolution's own pass. TensorFlow does
this to constants by itself, but not in 16 bits, where casts stand between the two. What comes after an addition, in a
network of pre-activations the first normalisation of each block, has no convolution to go into, since the sum is needed
as it is: with its ReLU it becomes one operation, where Keras's are three passes over the map.
"""

from collections import Counter

import keras
from keras import layers
import numpy as np
import tensorflow as tf


def fold(model):
    """Returns the function that computes what a network does in evaluation, with the weights that it has now.

    Differences are those of rounding. To become faster it must be traced, as by `tf.function`; each trace holds the
    weights once, those that are used.

    Args:
      model: a functional Keras model of one input, each of whose layers is called once.

    Returns a function that takes the model's place: of its input, and `training`, which must be False, to what the
    model returns; with the model's `output`, which has the shapes.
    """
    steps = _steps(model)

    def network(images, training=False):
        if training:
            raise ValueError("a folded network cannot be trained: its weights are constants")
        values = {id(model.input): images}
        for compute, inputs, output in steps:
            values[id(output)] = compute(*(values[id(x)] for x in inputs))
        return tf.nest.map_structure(lambda x: values[id(x)], model.output)

    network.output = model.output
    return network


def _steps(model):
    """Returns what to compute, in order: functions of tensors, and the model's tensors that they take and return."""
    own = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    read = [x for layer in own for x in tf.nest.flatten(layer.input)] + tf.nest.flatten(model.output)
    readers = Counter(map(id, read))
    normalisations = {id(layer.input): layer for layer in own if isinstance(layer, layers.BatchNormalization)}
    steps, folded = [], set()
    for layer in own:
        inputs, output = tf.nest.flatten(layer.input), layer.output
        if layer in folded:
            continue
        if isinstance(layer, layers.Conv2D) and layer.activation is keras.activations.linear:
            after = normalisations.get(id(output)) if readers[id(output)] == 1 else None
            if after:
                folded.add(after)
                output = after.output
            compute = _convolution(layer, after)
        elif isinstance(layer, layers.BatchNormalization) and len(output.shape) == 4:
            compute = _normalisation(layer)
        else:
            compute = _as_it_is(layer)
        steps.append((compute, inputs, output))
    return steps


def _convolution(layer, after):
    """A convolution, and the normalisation `after` it or None; in float64 up to the constants."""
    kernel = layer.kernel.numpy().astype(np.float64)
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else 0.0
    if after:
        numbers = _numbers(after)
        factor = numbers["scale"] / np.sqrt(numbers["variance"] + after.epsilon)
        kernel, bias = kernel * factor, (bias - numbers["mean"]) * factor + numbers["offset"]
    kernel = kernel.astype(np.float32)  # half the memory, for as long as nothing is traced
    # An operation of TensorFlow and no layer: a layer's variables would be cast at each step.
    data_format = {"channels_first": "NCHW", "channels_last": "NHWC"}[layer.data_format]

    def compute(x):
        x = tf.nn.conv2d(
            tf.cast(x, layer.compute_dtype),
            tf.constant(kernel, layer.compute_dtype),
            layer.strides,
            layer.padding.upper(),
            data_format,
            layer.dilation_rate,
        )
        if not np.ndim(bias):
            return x
        return tf.nn.bias_add(x, tf.constant(bias, layer.compute_dtype), data_format)

    return compute


def _normalisation(layer):
    """A batch normalisation that follows no convolution, in one operation; its numbers are float32 in any precision."""
    numbers = {name: value.astype(np.float32) for name, value in _numbers(layer).items()}
    data_format = "NCHW" if layer.axis == 1 else "NHWC"

    def compute(x):
        constants = {name: tf.constant(value) for name, value in numbers.items()}
        return tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(x, layer.compute_dtype),
            epsilon=layer.epsilon,
            data_format=data_format,
            is_training=False,
            **constants,
        ).y

    return compute


def _numbers(layer):
    """Returns the scale, offset, mean and variance of a batch normalisation by name, each float64 [channels]."""
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    scale = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
    offset = layer.beta.numpy() if layer.center else np.zeros_like(mean)
    numbers = {"scale": scale, "offset": offset, "mean": mean, "variance": variance}
    return {name: value.astype(np.float64) for name, value in numbers.items()}


def _as_it_is(layer):
    """Any other layer; its weights, if it has some, are constants."""
    trainable, rest = ([v.numpy() for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))
    joins = isinstance(layer, layers.Add | layers.Concatenate)  # these take a list

    def compute(*inputs):
        arguments = [list(inputs)] if joins else inputs
        if not layer.variables:
            return layer(*arguments)
        constants = ([tf.constant(value) for value in values] for values in (trainable, rest))
        return layer.stateless_call(*constants, *arguments)[0]

    return compute
