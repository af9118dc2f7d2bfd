"""Batches of examples of one shape, out of examples of many: none is padded for the sake of another."""

import numpy as np
import tensorflow as tf

# Bytes of examples that wait for others of their shape, in memory.
WAITING = 2**27


def by_shape(examples, batch_size, tensor_of, most=None, waiting=WAITING):
    """Returns a dataset of batches of those of the `examples` of which a tensor has one shape, in their order.

    Args:
      examples: a dataset of tensors in dictionaries or tuples; whatever differs in shape does so with that tensor.
      batch_size: rows of a batch. Those of a shape at the end are as many as are left.
      tensor_of: function of an element, or of its specification, to the tensor; its first two axes are those of pixels.
      most: pixels of a batch, unless it has one row; None for any number.
      waiting: bytes of examples that may wait for others. If more would, those of the shape that has most of them go
        out, as a smaller batch. So memory has a bound, whatever shapes come.
    """
    spec = examples.element_spec
    if tensor_of(spec).shape.is_fully_defined():
        return examples.batch(batch_size)
    options = tf.data.Options()
    # Else TensorFlow reads ahead as far as it likes.
    options.experimental_optimization.inject_prefetch = False
    examples = examples.with_options(options)

    def batches():
        groups = {}
        for example in examples.as_numpy_iterator():
            shape = tensor_of(example).shape
            groups.setdefault(shape, []).append(example)
            rows = batch_size if most is None else min(batch_size, max(1, most // (shape[0] * shape[1])))
            if len(groups[shape]) == rows:
                yield _stacked(groups.pop(shape))
            held = {shape: sum(map(_bytes, group)) for shape, group in groups.items()}
            while sum(held.values()) > waiting:
                largest = max(held, key=held.get)
                del held[largest]
                yield _stacked(groups.pop(largest))
        # As they began to wait.
        while groups:
            yield _stacked(groups.pop(next(iter(groups))))

    signature = tf.nest.map_structure(lambda one: tf.TensorSpec([None, *one.shape], one.dtype), spec)
    return tf.data.Dataset.from_generator(batches, output_signature=signature).with_options(options)


def _stacked(examples):
    return tf.nest.map_structure(lambda *rows: np.stack(rows), *examples)


def _bytes(example):
    return sum(np.asarray(one).nbytes for one in tf.nest.flatten(example))
