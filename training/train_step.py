"""One step of training, as a value: forward, loss, weight decay, backward, momentum."""

import tensorflow as tf

# Dynamic loss scaling for float16: start high, halve at an overflow, double after so many steps without one.
FIRST_LOSS_SCALE = 2.0**15
STEPS_TO_DOUBLE = 2000
# More processes than there will be: step and rank make one number for dropout to be drawn from.
MAX_RANKS = 2**20


def make_train_step(
    model,
    named,
    loss,
    *,
    weight_decay,
    momentum,
    precision="float32",
    xla=False,
    accumulate_steps=1,
    average=list,
    batch_norm_training=True,
    batch_norm_weight_decay=0.0,
    lr_factor=lambda name: 1.0,
    drop_rate=0.0,
    seed=1234,
    rank=0,
):
    """Returns the compiled step and the variables that it adds to a checkpoint.

    Args:
      model: a `models.resnet` network.
      named: `checkpoint.model_variables(model)`.
      loss: one of `losses`.
      weight_decay: factor of sum(v ** 2) / 2 over the trainable variables outside batch normalisation.
      batch_norm_weight_decay: the same over those inside (released fine-tuning: a tenth of the other).
      momentum: as in TensorFlow 1: m <- momentum * m + g; v <- v - lr * m, so a change of the learning rate acts at
        once on the whole of m.
      precision: with "float16" the loss is scaled for the backward pass, and a step whose gradients overflow changes
        neither weights nor momentum.
      xla: compile with XLA.
      accumulate_steps: parts that a batch is computed in, one after the other, so that memory need only hold a part.
        The result is that of the whole batch, but for batch normalisation, which sees a part at a time.
      average: function of gradients, a list of tensors, to their means over ranks, see `distributed.average`.
      batch_norm_training: whether batch normalisation uses the batch's statistics and moves its averages.
      lr_factor: function of a variable's name to what the learning rate is multiplied with for it.
      drop_rate: share of the features that dropout sets to 0 before the logits.
      seed, rank: what dropout is drawn from, statelessly, with the number of the step.

    Returns:
      `step(images, labels, lr)`, for images [batch, height, width, 3] and labels as of `loss`, which returns
      float32 scalars by name: "loss", of this rank and without the decay, and "decay"; and a dictionary from checkpoint
      name to variable: momenta and, with float16, the loss scale.
    """
    trainable = {name: v.value for name, v in named.items() if v.trainable}
    variables = list(trainable.values())
    decays = [batch_norm_weight_decay if "batch_normalization" in name else weight_decay for name in trainable]
    factors = [lr_factor(name) for name in trainable]
    momenta = {f"{name}/Momentum": tf.Variable(tf.zeros_like(v), trainable=False) for name, v in trainable.items()}
    scale = LossScale() if precision == "float16" else None

    @tf.function
    def step(images, labels, lr):
        decay_loss = tf.add_n([decay * tf.nn.l2_loss(v) for v, decay in zip(variables, decays, strict=True)])
        # The number of the step before it is counted, so that a restart draws the same.
        drop_seed = tf.stack([tf.constant(seed, tf.int64), loss.step * MAX_RANKS + rank])
        data_loss, gradients = gradients_of_parts(images, labels, loss.count(labels), drop_seed)
        gradients = average(gradients)
        if scale:
            gradients = [gradient / scale.value for gradient in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
            tf.cond(finite, lambda: apply(gradients, lr), tf.no_op)
            scale.update(finite)
        else:
            apply(gradients, lr)
        return {"loss": data_loss, "decay": decay_loss}

    def gradients_of_parts(images, labels, weights, drop_seed):
        """The loss and its gradients, means over the parts of the batch."""
        images = tf.reshape(images, [accumulate_steps, -1, *images.shape[1:]])
        labels = tf.reshape(labels, [accumulate_steps, -1, *labels.shape[1:]])
        seeds = tf.random.split(drop_seed, accumulate_steps)
        value, gradients = gradients_of(images[0], labels[0], weights, seeds[0])
        if accumulate_steps == 1:
            return value, gradients
        for k in tf.range(1, accumulate_steps):
            added, more = gradients_of(images[k], labels[k], weights, seeds[k])
            value += added
            gradients = [gradient + one for gradient, one in zip(gradients, more, strict=True)]
        return value / accumulate_steps, [gradient / accumulate_steps for gradient in gradients]

    # Compiled alone, since what ranks share is no operation of XLA, and since its random numbers are others.
    @tf.function(jit_compile=xla)
    def gradients_of(images, labels, weights, drop_seed):
        with tf.GradientTape() as tape:
            outputs = model(images, training=batch_norm_training)
            logits = outputs["logits"]
            if drop_rate:
                kept = tf.nn.experimental.stateless_dropout(outputs["feature"], drop_rate, drop_seed)
                logits = model.get_layer("logits")(kept)
            value = loss.mean_entropy(labels, logits, weights)
            target = value * scale.value if scale else value
        return value, tape.gradient(target, variables)

    def apply(gradients, lr):
        for variable, decay, factor, accumulator, gradient in zip(
            variables, decays, factors, momenta.values(), gradients, strict=True
        ):
            gradient += decay * variable
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle, accum=accumulator.handle, lr=factor * lr, grad=gradient, momentum=momentum
            )
        return tf.no_op()

    return step, momenta | (scale.variables_by_name() if scale else {})


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
