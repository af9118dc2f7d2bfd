"""The state of training as one value, which saves and restores itself."""

import keras
import tensorflow as tf

from models import checkpoint
from training.ema import WeightAverage

# Dynamic loss scaling for float16: start high, halve at an overflow, double after so many steps without one.
FIRST_LOSS_SCALE = 2.0**15
STEPS_TO_DOUBLE = 2000


class TrainState:
    """Everything that a restart needs, and nothing else.

    Attributes:
      step: int64 [], steps done.
      records_seen: int64 [], records that all ranks have trained on: where the input begins. It counts epochs right
        even where the batch was another before.
      weights: the model's variables by their names in a checkpoint; `trainable` those of them that are trained, as
        TensorFlow's.
      momenta: by the same names, a tensor for each trainable variable.
      loss: the loss, whose state is part of it.
      metadata: a `checkpoint.Metadata`, what its checkpoints say of it.
      loss_scale: a `LossScale` in float16, else None.
      average: a `WeightAverage`, or None.
    """

    def __init__(self, task, precision="float32", ema_decay=0.0, metadata=checkpoint.Metadata()):
        """`task` is a `tasks.base.Task`; "float16" needs a loss scale; an `ema_decay` of 0 means no average."""
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.records_seen = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.weights = checkpoint.model_variables(task.model)
        self.trainable = {name: v.value for name, v in self.weights.items() if v.trainable}
        self.momenta = {name: tf.Variable(tf.zeros_like(v), trainable=False) for name, v in self.trainable.items()}
        self.loss = task.loss
        self.metadata = metadata
        self.loss_scale = LossScale() if precision == "float16" else None
        self.average = WeightAverage(self.weights, ema_decay) if ema_decay else None

    def variables_by_name(self) -> dict[str, tf.Variable | keras.Variable]:
        """Returns all variables by their names in a checkpoint."""
        momenta = {f"{name}/Momentum": momentum for name, momentum in self.momenta.items()}
        # The step bears the name of the loss, whose it was once, so that checkpoints stay what they are.
        counters = {"loss/step": self.step, "records_seen": self.records_seen}
        parts = [part.variables_by_name() for part in (self.loss_scale, self.loss, self.average) if part]
        named = self.weights | momenta | counters
        for part in parts:
            named |= part
        return named

    def save(self, folder, max_to_keep):
        """Writes a checkpoint; returns its prefix. See `checkpoint.save`."""
        return checkpoint.save(folder, int(self.step), self.variables_by_name(), max_to_keep, self.metadata)

    def restore_newest(self, folder):
        """Restores the newest checkpoint that is whole. See `checkpoint.restore_newest` for what it returns."""
        return checkpoint.restore_newest(folder, self.variables_by_name())

    def restore_pretrained(self, prefix, new_scopes, anew=()):
        """Takes the weights that another run left. See `checkpoint.restore_pretrained` for what it returns."""
        return checkpoint.restore_pretrained(prefix, self.weights, new_scopes, anew)

    def moving_statistics(self):
        """Returns the moving averages of batch normalisation that training moves.

        Those of a frozen layer, which has no momentum, are to stay as they are to the bit.
        """
        scopes = {name: name.partition("/moving_")[0] for name in self.weights if "/moving_" in name}
        return [self.weights[name] for name, scope in scopes.items() if f"{scope}/gamma" in self.momenta]


class LossScale(tf.Module):
    """The factor of the loss that keeps small float16 gradients from vanishing, and large ones from overflowing."""

    def __init__(self):
        super().__init__()
        self.value = tf.Variable(FIRST_LOSS_SCALE, trainable=False)
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def variables_by_name(self):
        return {"loss_scale/value": self.value, "loss_scale/good_steps": self.good_steps}

    def update(self, finite):
        """Follows a step whose gradients were all `finite`, bool [], or not."""
        good_steps = tf.where(finite, self.good_steps + 1, 0)
        double = good_steps >= STEPS_TO_DOUBLE
        grown = tf.where(double, self.value * 2.0, self.value)
        self.value.assign(tf.where(finite, grown, tf.maximum(self.value / 2.0, 1.0)))
        self.good_steps.assign(tf.where(double, tf.zeros_like(good_steps), good_steps))
