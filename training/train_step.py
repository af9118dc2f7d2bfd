"""One step of training, as a value: augmentation, forward, loss, weight decay, backward, momentum, average."""

import functools
from typing import NamedTuple

import tensorflow as tf

import distributed
from training.schedule import layer_factor

# More processes than there will be: step and rank make one number for dropout to be drawn from.
MAX_RANKS = 2**20


class StepConfig(NamedTuple):
    """See the flags of the same names.

    Attributes:
      weight_decay: factor of sum(v ** 2) / 2 over the trainable variables outside batch normalisation.
      batch_norm_weight_decay: the same over those inside, as a share of the other (released fine-tuning: a tenth).
      opt_momentum: as in TensorFlow 1: m <- momentum * m + g; v <- v - lr * m, so a change of the learning rate acts
        at once on the whole of m.
      lr_layer_decay: see `schedule.layer_factor`.
      clip_norm: greatest norm of all gradients together, averaged over ranks and without weight decay; those above are
        scaled down to it. None: no limit.
      accumulate_steps: parts that a batch is computed in, one after the other, so that memory need only hold a part.
        The result is that of the whole batch, but for batch normalisation, which sees a part at a time.
      compression: see `distributed.average`.
      xla: compile with XLA.
      random_seed: what dropout is drawn from, statelessly, with the number of the step and the rank.
    """

    weight_decay: float
    batch_norm_weight_decay: float = 0.0
    opt_momentum: float = 0.9
    lr_layer_decay: float = 1.0
    clip_norm: float | None = None
    accumulate_steps: int = 1
    compression: str = "none"
    xla: bool = False
    random_seed: int = 1234


def make_train_step(task, state, config, rank=0, average=None):
    """Returns the compiled step, which trains the `state`.

    Args:
      task: a `tasks.base.Task`.
      state: its `TrainState`. With a loss scale, the loss is scaled for the backward pass, and a step whose gradients
        overflow changes neither weights nor momentum.
      config: a `StepConfig`.
      rank: of this process.
      average: function of gradients, a list of tensors, to their means over ranks; None: `distributed.average`.

    Returns:
      `step(batch, lr)`, for the batch of this rank, a dictionary of tensors [batch, …] (texts are left out), which
      returns float32 scalars by name: "loss", of this rank and without the decay, "decay", and the loss's terms, if it
      has names for them.
    """
    average = average or functools.partial(distributed.average, compression=config.compression)
    variables = list(state.trainable.values())
    decays = [config.weight_decay * _decay_share(name, config) for name in state.trainable]
    apply = _make_apply(state, config, decays)
    gradients_of_parts = _make_gradients(task, state, config)

    # Rewriting the source (AutoGraph) takes seconds at a run's start, and only the loop over parts needs it.
    @tf.function(autograph=config.accumulate_steps > 1)
    def compiled(batch, lr):
        decay_loss = tf.add_n([decay * tf.nn.l2_loss(v) for v, decay in zip(variables, decays, strict=True)])
        # The number of the step before it is counted, so that a restart draws the same.
        seed = tf.stack([tf.constant(config.random_seed, tf.int64), state.step * MAX_RANKS + rank])
        weights = task.loss.count(batch, state.step)
        terms, gradients = gradients_of_parts(batch, weights, seed)
        gradients = average(gradients)
        if state.loss_scale:
            gradients = [gradient / state.loss_scale.value for gradient in gradients]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
            tf.cond(finite, lambda: apply(gradients, lr), tf.no_op)
            state.loss_scale.update(finite)
        else:
            apply(gradients, lr)
        state.step.assign_add(1)
        if state.average:
            state.average.update()
        return terms | {"loss": tf.add_n(list(terms.values())), "decay": decay_loss}

    def step(batch, lr):
        # XLA has no texts, and nothing is computed from them.
        tensors = {name: x for name, x in batch.items() if x.dtype != tf.string}
        if not task.shapes_vary:
            return compiled(tensors, lr)
        # Compiled once, not for each size of image.
        specs = {name: tf.TensorSpec([len(x), *[None] * (x.ndim - 1)], x.dtype) for name, x in tensors.items()}
        return compiled.get_concrete_function(specs, tf.TensorSpec([], lr.dtype))(tensors, lr)

    return step


def _make_apply(state, config, decays):
    """Returns the function of gradients and a rate that moves momenta and weights; `decays` are factors of weights."""
    factors = [layer_factor(name, config.lr_layer_decay) for name in state.trainable]

    def apply(gradients, lr):
        if config.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm)
        for variable, decay, factor, momentum, gradient in zip(
            state.trainable.values(), decays, factors, state.momenta.values(), gradients, strict=True
        ):
            if decay:
                gradient += decay * variable
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=momentum.handle,
                lr=factor * lr,
                grad=gradient,
                momentum=config.opt_momentum,
            )
        return tf.no_op()

    return apply


def _decay_share(name, config):
    return config.batch_norm_weight_decay if "batch_normalization" in name else 1


def _make_gradients(task, state, config):
    """Returns the function of a batch, the weights of its classes and a seed to the loss's terms and its gradients.

    They are means over the parts of the batch.
    """
    variables = list(state.trainable.values())

    def of_part(weights, k):
        return weights[k] if task.loss.by_part else weights

    def gradients_of_parts(batch, weights, seed):
        seeds = tf.random.split(seed, config.accumulate_steps)
        if config.accumulate_steps == 1:
            return of_augmented(batch, of_part(weights, 0), seeds[0])
        parts = {name: _in_parts(x, config.accumulate_steps) for name, x in batch.items()}
        terms, gradients = of_augmented({name: x[0] for name, x in parts.items()}, of_part(weights, 0), seeds[0])
        for k in tf.range(1, config.accumulate_steps):
            added, more = of_augmented({name: x[k] for name, x in parts.items()}, of_part(weights, k), seeds[k])
            terms = {name: value + added[name] for name, value in terms.items()}
            gradients = [gradient + one for gradient, one in zip(gradients, more, strict=True)]
        terms = {name: value / config.accumulate_steps for name, value in terms.items()}
        return terms, [gradient / config.accumulate_steps for gradient in gradients]

    # A part at a time, since images waiting to be augmented may be bytes. XLA's random numbers would be others.
    def of_augmented(part, weights, seed):
        return gradients_of(task.augment(part, tf.random.fold_in(seed, 1)), weights, seed)

    # Compiled alone, since what ranks share is no operation of XLA, and since its random numbers are others.
    @tf.function(autograph=False, jit_compile=config.xla)
    def gradients_of(part, weights, seed):
        with tf.GradientTape() as tape:
            terms = task.loss(part, task.forward(part, training=True, seed=seed), weights)
            terms = terms if isinstance(terms, dict) else {"loss": terms}
            value = tf.add_n(list(terms.values()))
            target = value * state.loss_scale.value if state.loss_scale else value
        return terms, tape.gradient(target, variables)

    return gradients_of_parts


def _in_parts(x, count):
    if None not in x.shape[1:]:
        return tf.reshape(x, [count, -1, *x.shape[1:]])
    return tf.reshape(x, tf.concat([[count, -1], tf.shape(x)[1:]], axis=0))
