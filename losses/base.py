"""What a loss is, and the base of those that weigh all classes alike.

The training step calls `count(batch, step)` once for a whole batch, which may change the loss's state, and then
`loss(batch, outputs, weights)` for the batch, or for each part of one, with what `count` returned. Both are compiled
without AutoGraph: what depends on a tensor's value is chosen by `tf.where` or `tf.cond`, not by Python's `if`.
"""

import tensorflow as tf


class UnweightedLoss:
    """A loss without a state, whose classes all weigh the same. A subclass adds `__call__`.

    Attributes:
      terms: names of the terms that `__call__` returns; none, if it returns their sum.
      by_part: whether `count` returns the weights of each part of a batch that is computed in parts, [parts,
        class_num], of which `__call__` gets the part's.
    """

    terms: tuple[str, ...] = ()
    by_part: bool = False

    def variables_by_name(self):
        """Returns the state that a restart needs: a dictionary from a name in the checkpoint to a variable."""
        return {}

    def shares(self):
        """Returns by name, as floats, what is worth a line of progress: shares, in [0, 1], of the classes."""
        return {}

    def count(self, batch, step):
        """Returns the weights of the classes, float32 [] or [class_num], of a whole batch.

        Args:
          batch: dictionary of tensors.
          step: int64 [], the number of steps done before.
        """
        return tf.ones([])

    def __call__(self, batch, outputs, weights):
        """Returns the loss of a batch, or of a part of one, float32 []; or, by name, the terms that are its sum.

        Args:
          batch: dictionary of tensors, as the records hold it.
          outputs: dictionary of tensors, what the task's `forward` returned.
          weights: what `count` returned.
        """
        raise NotImplementedError
