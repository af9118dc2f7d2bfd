"""What a training run will need, estimated before it starts: steps, memory of a process, and what processes send."""

import math

import keras

# Measured on a CPU with ResNet-18 and 50 at 224 pixels: at its peak a step takes 1.3 to 1.5 times what is kept, since
# gradients and scratch space come and go.
PEAK = 1.4
# The backward pass has two products a layer, of the gradient with inputs and with weights, the forward pass one.
BACKWARD = 2 / 3
# Layers whose input is kept until the backward pass; the others need less, or the same tensor.
KEEPING = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.GlobalAveragePooling2D)


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
    convolutions and of batch normalisation (float32 in any precision), times PEAK. TensorFlow itself takes about half a
    gigabyte more.
    """
    trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
    fixed = sum(math.prod(v.shape) for v in model.non_trainable_variables)
    kept = {id(layer.input): layer for layer in model.layers if isinstance(layer, KEEPING)}.values()
    network = keras.Model(model.input, [layer.input for layer in kept])
    shapes = network.compute_output_spec(keras.KerasTensor([batch_size, image_size, image_size, 3]))
    activations = 0
    for layer, tensor in zip(kept, shapes, strict=True):
        half = layer.compute_dtype != "float32" and not isinstance(layer, keras.layers.BatchNormalization)
        activations += math.prod(tensor.shape) * (2 if half else 4)
    return {"state": 4 * (3 * trainable + fixed), "activations": int(PEAK * activations)}


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
    layers = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))]
    network = keras.Model(model.input, [layer.output for layer in layers])
    shapes = network.compute_output_spec(keras.KerasTensor([1, image_size, image_size, 3]))
    # The kernel's last axis is the output's channels, in either layout of the data.
    return sum(
        math.prod(tensor.shape) * math.prod(layer.kernel.shape[:-1])
        for layer, tensor in zip(layers, shapes, strict=True)
    )
