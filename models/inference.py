"""What a network says of images: its features or logits, from one crop or from the mean of ten."""

import tensorflow as tf

CROPS = ("center", "10crop")


def output_function(model, output, crop="center", xla=False):
    """Returns the function from images to an output of the network, float32 [batch, width].

    Args:
      model: a `models.resnet` network.
      output: "feature" or "logits".
      crop: "center": images are [batch, height, width, 3]; "10crop": they are [batch, 10, height, width, 3], and the
        result is the mean over the crops. (The logits of the mean feature are the mean of the logits.)
      xla: whether to compile with XLA.
    """
    network = tf.function(lambda images: model(images, training=False)[output], reduce_retracing=True, jit_compile=xla)
    if crop == "center":
        return network
    # One crop of all images after the other: ten times the time, but not ten times the memory.
    return lambda images: tf.add_n([network(images[:, k]) for k in range(10)]) / 10


def images_at_once(batch_size, crop):
    """Returns how many images a batch should have so that its crops do not need ten times the memory."""
    return batch_size if crop == "center" else max(min(batch_size, 32), batch_size // 10)
