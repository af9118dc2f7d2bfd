"""One step of training, as a value: forward, loss, weight decay, backward, momentum."""

import tensorflow as tf

# Dynamic loss scaling for float16: start high, halve at an overflow, double after so many steps without one.
FIRST_LOSS_SCALE = 2.0**15
STEPS_TO_DOUBLE = 2000


def make_train_step(model, named, loss, *, weight_decay, momentum, precision="float32", xla=False):
    """Returns the compiled step and the variables that it adds to a checkpoint.

    Args:
      model: a `models.resnet` network.
      named: `checkpoint.model_variables(model)`.
      loss: function of labels and logits.
      weight_decay: factor of sum(v ** 2) / 2 over the trainable variables outside batch normalisation.
      momentum: as in TensorFlow 1: m <- momentum * m + g; v <- v - lr * m, so a change of the learning rate acts at
        once on the whole of m.
      precision: with "float16" the loss is scaled for the backward pass, and a step whose gradients overflow changes
        neither weights nor momentum.
      xla: compile with XLA.

    Returns:
      `step(images, labels, lr)`, for images [batch, height, width, 3] and labels [batch, class_num], which returns
      float32 scalars by name: "loss", without the decay, and "decay"; and a dictionary from checkpoint name to
      variable: momenta and, with float16, the loss scale.
    """
    trainable = {name: v.value for name, v in named.items() if v.trainable}
    decayed = [v for name, v in trainable.items() if "batch_normalization" not in name]
    momenta = {f"{name}/Momentum": tf.Variable(tf.zeros_like(v), trainable=False) for name, v in trainable.items()}
    scale = LossScale() if precision == "float16" else None

    def step(images, labels, lr):
        with tf.GradientTape() as tape:
            data_loss = loss(labels, model(images, training=True)["logits"])
            decay = weight_decay * tf.add_n([tf.nn.l2_loss(v) for v in decayed])
            total = data_loss + decay
            target = total * scale.value if scale else total
        gradients = tape.gradient(target, list(trainable.values()))
        if scale:
            gradients = [gradient / scale.value for gradient in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
            tf.cond(finite, lambda: apply(gradients, lr), tf.no_op)
            scale.update(finite)
        else:
            apply(gradients, lr)
        return {"loss": data_loss, "decay": decay}

    def apply(gradients, lr):
        for variable, accumulator, gradient in zip(trainable.values(), momenta.values(), gradients, strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle, accum=accumulator.handle, lr=lr, grad=gradient, momentum=momentum
            )
        return tf.no_op()

    return tf.function(step, jit_compile=xla), momenta | (scale.variables_by_name() if scale else {})


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
