"""What a training run will need, reckoned before it starts: steps, memory of a process, and what processes send."""

import math

import keras

# Measured on a CPU with ResNet-18 and 50 at 224 pixels: at its peak a step takes 1.3 to 1.5 times what is kept, since
# gradients and scratch space come and go.
PEAK = 1.4
# Layers whose input is kept until the backward pass; the others need less, or the same tensor.
KEEPING = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.GlobalAveragePooling2D)


def stairs(learning_rate, steps):
    """Returns the pairs (step, learning rate) at which the rate changes, from step 0 on.

    Args:
      learning_rate: function of the number of steps done before.
      steps: of the whole run.
    """
    found = []
    for step in range(steps):
        rate = learning_rate(step)
        if not found or rate != found[-1][1]:
            found.append((step, rate))
    return found


def memory(model, batch_size, image_size):
    """Returns the bytes that training holds on one device, by what they are for.

    Args:
      model: a `models.resnet` network.
      batch_size: pictures that go through the network at once.
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
