"""The training step against the rules of DESIGN section 6, written anew in NumPy and with Keras's plain gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from losses.multi_label import SoftmaxLoss, WeightedSigmoidLoss
from models.checkpoint import model_variables
from models.resnet import build_resnet, freeze
from training import train_step
from training.train_step import make_train_step

CLASSES = 6


def batch(seed):
    random = np.random.default_rng(seed)
    images = random.uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)
    return tf.constant(images), tf.constant((random.random((8, CLASSES)) < 0.3).astype(np.float32))


def test_momentum_and_weight_decay_over_12_steps():
    """Weights after 12 steps of ours are those of TensorFlow-1 momentum written out in NumPy."""
    ours, theirs = build_resnet(18, CLASSES), build_resnet(18, CLASSES)
    step, _ = make_train_step(
        ours, model_variables(ours), WeightedSigmoidLoss(CLASSES), weight_decay=1e-3, momentum=0.9
    )
    loss = WeightedSigmoidLoss(CLASSES)
    named = {name: v for name, v in model_variables(theirs).items() if v.trainable}
    start = {name: v.numpy() for name, v in named.items()}
    momenta = {name: np.zeros(v.shape, np.float32) for name, v in named.items()}

    @tf.function
    def loss_and_gradients(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, theirs(images, training=True)["logits"])
        return value, tape.gradient(value, [v.value for v in named.values()])

    for k in range(12):
        lr = 0.001 if k < 6 else 0.0002  # the momentum must not be scaled by an old learning rate
        images, labels = batch(k)
        result = step(images, labels, tf.constant(lr))
        decayed = [v.numpy() for name, v in named.items() if "batch_normalization" not in name]
        np.testing.assert_allclose(result["decay"], 1e-3 * sum((v**2).sum() / 2 for v in decayed), rtol=1e-5)
        value, gradients = loss_and_gradients(images, labels)
        np.testing.assert_allclose(result["loss"], value, rtol=1e-3)
        for (name, v), gradient in zip(named.items(), gradients, strict=True):
            decay = 0 if "batch_normalization" in name else 1e-3 * v.numpy()
            momenta[name] = 0.9 * momenta[name] + gradient.numpy() + decay
            v.assign(v.numpy() - lr * momenta[name])
    for name, v in named.items():
        moved = np.linalg.norm(v.numpy() - start[name])
        assert np.linalg.norm(model_variables(ours)[name].numpy() - v.numpy()) < 0.03 * moved, name


def test_moving_averages_move_by_the_decay():
    model = build_resnet(18, CLASSES, batch_norm_decay=0.9)
    named = model_variables(model)
    step, _ = make_train_step(model, named, WeightedSigmoidLoss(CLASSES), weight_decay=0.0, momentum=0.9)
    images, labels = batch(0)
    first = tf.nn.conv2d(
        tf.pad(images, [[0, 0], [3, 3], [3, 3], [0, 0]]), model.get_layer("init.init_conv").kernel, 2, "VALID"
    )
    step(images, labels, tf.constant(0.0))
    scope = "stages_0_block_0/conv1_b2_bn/batch_normalization/"
    np.testing.assert_allclose(named[scope + "moving_mean"], 0.1 * first.numpy().mean((0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        named[scope + "moving_variance"], 0.9 + 0.1 * first.numpy().var((0, 1, 2)), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("xla", [False, True])
def test_loss_falls(xla):
    model = build_resnet(18, CLASSES)
    step, state = make_train_step(
        model, model_variables(model), WeightedSigmoidLoss(CLASSES), weight_decay=1e-4, momentum=0.9, xla=xla
    )
    images, labels = batch(0)
    losses = [float(step(images, labels, tf.constant(0.01))["loss"]) for _ in range(15)]
    assert losses[-1] < losses[0] / 4
    assert all(name.endswith("/Momentum") for name in state)
    assert not any("moving_" in name for name in state)


def test_float16_skips_a_step_that_overflows_and_halves_the_scale(monkeypatch):
    monkeypatch.setattr(train_step, "STEPS_TO_DOUBLE", 3)
    model = build_resnet(18, CLASSES, precision="float16")
    named = model_variables(model)
    step, state = make_train_step(
        model, named, WeightedSigmoidLoss(CLASSES), weight_decay=1e-4, momentum=0.9, precision="float16"
    )
    scale = state["loss_scale/value"]
    scale.assign(2.0**40)
    kernel = named["stages_1_block_0/conv1_b2/conv2d/kernel"]
    before = kernel.numpy()
    images, labels = batch(0)
    step(images, labels, tf.constant(0.01))
    np.testing.assert_array_equal(kernel, before)
    assert float(scale) == 2.0**39
    scale.assign(2.0**6)
    for _ in range(3):
        step(images, labels, tf.constant(0.01))
    assert float(scale) == 2.0**7
    assert (kernel.numpy() != before).any() and np.isfinite(kernel.numpy()).all()


def test_float16_gradients_do_not_depend_on_the_scale():
    weights = []
    for scale in (2.0**4, 2.0**8):
        model = build_resnet(18, CLASSES, precision="float16")
        named = model_variables(model)
        step, state = make_train_step(
            model, named, WeightedSigmoidLoss(CLASSES), weight_decay=1e-4, momentum=0.9, precision="float16"
        )
        state["loss_scale/value"].assign(scale)
        before = named["logits/dense/kernel"].numpy()
        step(*batch(0), tf.constant(0.1))
        weights.append(named["logits/dense/kernel"].numpy() - before)
    np.testing.assert_allclose(weights[0], weights[1], rtol=0.02, atol=0.01 * abs(weights[0]).max())


TRAINED = ("stages_2", "stages_3", "global_pool", "logits")


def test_frozen_layers_do_not_change_by_a_bit_and_layers_have_their_own_rates():
    """One step of a network with frozen layers, against Keras's plain gradients of the same network."""
    ours, theirs = build_resnet(18, CLASSES), build_resnet(18, CLASSES)
    for model in (ours, theirs):
        freeze(model, TRAINED)
    named = model_variables(ours)
    before = {name: v.numpy() for name, v in named.items()}
    images, labels = batch(0)
    labels = tf.argmax(labels, axis=1)
    step, state = make_train_step(
        ours,
        named,
        SoftmaxLoss(),
        weight_decay=1e-2,
        momentum=0.9,
        batch_norm_weight_decay=1e-3,
        lr_factor=lambda name: 0.5 if name.startswith("stages_2") else 1.0,
    )
    step(images, labels, tf.constant(0.1))

    variables = {name: v for name, v in model_variables(theirs).items() if v.trainable}
    with tf.GradientTape() as tape:
        logits = theirs(images, training=True)["logits"]
        value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(value, [v.value for v in variables.values()])
    for (name, variable), gradient in zip(variables.items(), gradients, strict=True):
        decay = 1e-3 if "batch_normalization" in name else 1e-2
        rate = 0.05 if name.startswith("stages_2") else 0.1
        expected = before[name] - rate * (gradient.numpy() + decay * variable.numpy())
        moved = np.abs(expected - before[name]).max()
        np.testing.assert_allclose(named[name].numpy(), expected, atol=0.01 * moved, err_msg=name)
    for name, value in before.items():
        changed = (named[name].numpy() != value).any()
        assert changed == name.startswith(TRAINED), name  # the statistics of batch normalisation included
        assert (f"{name}/Momentum" in state) == (name in variables)


def test_dropout_follows_seed_step_and_rank():
    def loss_of(seed=1, rank=0, steps=1, rate=0.5):
        """The loss of a network that is its last layers alone."""
        images = keras.Input((64, 64, 3))
        feature = keras.layers.Flatten()(keras.layers.AveragePooling2D(16)(images))
        dense = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(5), name="logits")
        model = keras.Model(images, {"feature": feature, "logits": dense(feature)})
        loss = SoftmaxLoss()
        step, _ = make_train_step(
            model, model_variables(model), loss, weight_decay=0, momentum=0.9, drop_rate=rate, seed=seed, rank=rank
        )
        loss.step.assign(steps)
        images, labels = batch(0)
        return float(step(images, tf.argmax(labels, axis=1), tf.constant(0.0))["loss"])

    first = loss_of()
    assert loss_of() == pytest.approx(first, rel=1e-5)
    others = [loss_of(seed=2), loss_of(rank=1), loss_of(steps=2), loss_of(rate=0.0)]
    assert all(abs(other - first) > 1e-4 for other in others)
