"""What a training run will need, estimated before it starts: steps, memory of a process, and what processes send."""

import math

import keras
import numpy as np

from models.regions import CROP

# Measured on a CPU with ResNet-18 and 50 at 224 pixels: at its peak a step takes 1.3 to 1.5 times what is kept, since
# gradients and scratch space come and go.
PEAK = 1.4
# The backward pass has two products a layer, of the gradient with inputs and with weights, the forward pass one.
BACKWARD = 2 / 3
# Measured with ResNet-101 at 600 x 1,000 pixels: how many times the largest tensor there is at once without a backward
# pass, of a block its input, the shortcut and what the main path reads and writes.
LIVE = 4
# A class in more than this share of the batches is in nearly every one.
OFTEN = 0.9
# Layers whose input is kept until the backward pass; the others need less, or the same tensor.
KEEPING = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.GlobalAveragePooling2D)


def present_share(frequencies, batch):
    """Returns the share of the classes that are present in more than OFTEN of the batches, a float.

    Args:
      frequencies: share of the images that each class is in, floats [class_num].
      batch: number of images, drawn independently, that a class is looked for in.
    """
    return float(np.mean(1 - (1 - np.minimum(frequencies, 1.0)) ** batch > OFTEN))


def boundaries(learning_rate, steps):
    """Returns the pairs (step, learning rate) at which the rate changes, from step 0 on.

    Args:
      learning_rate: function of the number of steps done before.
      steps: of the whole run.
    """
    rates = []
    for step in range(steps):
        rate = learning_rate(step)
        if not rates or rate != rates[-1][1]:
            rates.append((step, rate))
    return rates


def memory(model, batch_size, image_size):
    """Returns the bytes that training holds on one device, by what they are for.

    Args:
      model: a `models.resnet` network.
      batch_size: images that go through the network at once.
      image_size: their height and width in pixels.

    "state" is weights, momenta and gradients. "activations" is what is kept of the forward pass, the inputs of
    convolutions and of batch normalisation (float32 in any precision) that are trained, times PEAK. TensorFlow itself
    takes about half a gigabyte more.
    """
    activations = _kept(model, [batch_size, image_size, image_size, 3])
    return {"state": _state(model), "activations": int(PEAK * activations)}


def detector_memory(detector, batch_size, image_size):
    """Returns the bytes that training a detector holds on one device, and using it, by what they are for.

    Args:
      detector: a `models.faster_rcnn.Detector`.
      batch_size: images that go through the trunk at once; their regions go through the head at once.
      image_size: their height and width in pixels.

    "state" and "activations" are of training, see `memory`: of the trunk on whole images and of the head on the sampled
    regions. "test" is all that finding objects in one image takes: weights,
    and the largest tensors that are there at the same time.
    """
    trunk, rpn, head = _alone(detector)
    images, crops = [batch_size, *image_size, 3], _crops(head, batch_size * detector.config.regions)
    found, test_crops = [1, *image_size, 3], _crops(head, detector.config.proposals)
    weights = 4 * sum(math.prod(v.shape) for v in detector.model.variables)
    activations = _kept(trunk, images) + _kept(rpn, _map(trunk, images)) + _kept(head, crops)
    return {
        "state": _state(detector.model),
        "activations": int(PEAK * activations),
        "test": weights + LIVE * max(_largest(trunk, found), _largest(head, test_crops)),
    }


def detector_multiply_adds(detector, image_size):
    """Returns the multiplications of a detector's forward pass: "trunk" and "rpn" of one image, "region" of one region.

    Args:
      detector: a `models.faster_rcnn.Detector`.
      image_size: height and width of the image in pixels.
    """
    trunk, rpn, head = _alone(detector)
    image = [1, *image_size, 3]
    return {
        "trunk": _products(trunk, image),
        "rpn": _products(rpn, _map(trunk, image)),
        "region": _products(head, _crops(head, 1)),
    }


def _alone(detector):
    """Copies of trunk, rpn and head that share no layers, each of which has one input and one output then."""
    with keras.StatelessScope():  # no memory for weights
        return [keras.models.clone_model(part) for part in (detector.trunk, detector.rpn, detector.head)]


def _map(trunk, images):
    """The shape of the map of images of this shape."""
    return list(trunk.compute_output_spec(keras.KerasTensor(images)).shape)


def _crops(head, regions):
    """The shape of the crops of regions, in the layout of the head."""
    return [regions, *(CROP if side is None else side for side in head.input.shape[1:])]


def _state(model):
    """Bytes of weights, momenta and gradients."""
    trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
    return 4 * (3 * trainable + sum(math.prod(v.shape) for v in model.non_trainable_variables))


def _kept(model, shape):
    """Bytes of the layers' inputs that are kept until the backward pass, for an input of `shape`."""
    # What is frozen needs no input to compute its gradient.
    layers = [layer for layer in model.layers if isinstance(layer, KEEPING) and layer.trainable]
    kept = {id(layer.input): layer for layer in layers}.values()
    # Batch normalisation keeps float32 in any precision.
    sizes = [4 if isinstance(layer, keras.layers.BatchNormalization) else _bytes(layer) for layer in kept]
    return sum(map(math.prod, zip(sizes, _values(model, [layer.input for layer in kept], shape), strict=True)))


def _largest(model, shape):
    """Bytes of the largest output of a layer, for an input of `shape`."""
    outputs = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    values = _values(model, [layer.output for layer in outputs], shape)
    return max(_bytes(layer) * count for layer, count in zip(outputs, values, strict=True))


def _bytes(layer):
    return 4 if layer.compute_dtype == "float32" else 2


def _values(model, tensors, shape):
    """The number of values in each of the `tensors` inside of a model, for an input of `shape`."""
    if not tensors:
        return []
    outputs = keras.Model(model.input, tensors).compute_output_spec(keras.KerasTensor(shape))
    return [math.prod(tensor.shape) for tensor in outputs]


def bytes_sent(values, processes):
    """Returns how many bytes a process sends, and receives, to add up `values` bytes over all by a ring.

    2 (N - 1) / N of them: each part goes round once to be added up and once to be spread (Patarasuk and Yuan 2009).
    """
    return 2 * (processes - 1) / processes * values


def ring_seconds(values, processes, bandwidth, latency, messages=1):
    """Returns the seconds to add up over a ring: 2 (N - 1) hops of each message, and `bytes_sent` over the link.

    Args:
      values: bytes of the tensors, of all messages together.
      processes: in the ring.
      bandwidth: bytes a second that a process can send while it receives as many, over the slowest link of the ring.
      latency: seconds of one hop.
      messages: parts that are sent one after the other.
    """
    return 2 * (processes - 1) * messages * latency + bytes_sent(values, processes) / bandwidth


def hierarchical_seconds(values, machines, local, bandwidths, latency, messages=1):
    """Returns the seconds to add up inside machines, then over them, each GPU a share, then spread inside.

    Args as of `ring_seconds`, and:
      machines, local: number of machines, and of processes on each.
      bandwidths: bytes a second in and out of a machine, which its processes share; and between two of its processes.
    """
    network, inside = bandwidths
    across = ring_seconds(values, machines, network, latency, messages)
    return ring_seconds(values, local, inside, latency, messages) + across


def step_seconds(computing, adding_up):
    """Returns the seconds of a step: `adding_up` hides behind the backward pass, two thirds of `computing`."""
    return computing + max(0.0, adding_up - BACKWARD * computing)


def multiply_adds(model, image_size):
    """Returns the multiplications in one forward pass of one image, in convolutions and dense layers."""
    return _products(model, [1, image_size, image_size, 3])


def _products(model, shape):
    """The multiplications in a model's convolutions and dense layers, for an input of `shape`."""
    layers = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))]
    values = _values(model, [layer.output for layer in layers], shape)
    # The kernel's last axis is the output's channels, in either layout of the data.
    return sum(count * math.prod(layer.kernel.shape[:-1]) for layer, count in zip(layers, values, strict=True))
