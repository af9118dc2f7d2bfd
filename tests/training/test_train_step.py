"""The training step against the rules of DESIGN section 6, written anew in NumPy and with Keras's plain gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_processing.input_pipeline.augmentation import augmented
from data_processing.input_pipeline.transforms import Augmentation
from losses.multi_label import LossConfig, MultiLabelLoss
from losses.single_label import SoftmaxLoss
from losses.weighted import Spread, WeightedSigmoidLoss
from models.checkpoint import model_variables
from models.resnet import NetworkConfig, build_resnet, train_only
from tasks.classification import Classification
from training import state as training_state
from training.state import TrainState
from training.train_step import StepConfig, make_train_step

CLASSES = 6


def batch(seed):
    random = np.random.default_rng(seed)
    images = random.uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)
    labels = (random.random((8, CLASSES)) < 0.3).astype(np.float32)
    names = tf.constant(["a.jpg"] * 8)  # texts are there, too, and must not disturb
    return {"image": tf.constant(images), "label": tf.constant(labels), "name": names}


def single_batch(seed):
    labelled = batch(seed)
    return labelled | {"label": tf.argmax(labelled["label"], axis=1)}


def train_step_of(model, loss=None, precision="float32", rank=0, weight_decay=1e-4, drop_rate=0.0, **options):
    """The step of a network and its state."""
    loss = loss or WeightedSigmoidLoss(CLASSES)
    single = isinstance(loss, SoftmaxLoss)
    task = Classification(model=model, kind="single" if single else "sparse", loss=loss, drop_rate=drop_rate)
    state = TrainState(task, precision)
    return make_train_step(task, state, StepConfig(weight_decay, **options), rank), state


def test_momentum_and_weight_decay_over_12_steps():
    """Weights after 12 steps of ours are those of TensorFlow-1 momentum written out in NumPy."""
    ours, theirs = build_resnet(10, CLASSES), build_resnet(10, CLASSES)
    step, state = train_step_of(ours, weight_decay=1e-3)
    loss = WeightedSigmoidLoss(CLASSES)
    named = {name: v for name, v in model_variables(theirs).items() if v.trainable}
    start = {name: v.numpy() for name, v in named.items()}
    momenta = {name: np.zeros(v.shape, np.float32) for name, v in named.items()}

    @tf.function
    def loss_and_gradients(inputs, step):
        weights = loss.count(inputs, step)
        with tf.GradientTape() as tape:
            value = loss(inputs, theirs(inputs["image"], training=True), weights)
        return value, tape.gradient(value, [v.value for v in named.values()])

    for k in range(12):
        lr = 0.001 if k < 6 else 0.0002  # the momentum must not be scaled by an old learning rate
        inputs = batch(k)
        result = step(inputs, tf.constant(lr))
        decayed = [v.numpy() for name, v in named.items() if "batch_normalization" not in name]
        np.testing.assert_allclose(result["decay"], 1e-3 * sum((v**2).sum() / 2 for v in decayed), rtol=1e-5)
        value, gradients = loss_and_gradients(inputs, tf.constant(k, tf.int64))
        np.testing.assert_allclose(result["loss"], value, rtol=1e-3)
        for (name, v), gradient in zip(named.items(), gradients, strict=True):
            decay = 0 if "batch_normalization" in name else 1e-3 * v.numpy()
            momenta[name] = 0.9 * momenta[name] + gradient.numpy() + decay
            v.assign(v.numpy() - lr * momenta[name])
    assert int(state.step) == 12
    for name, v in named.items():
        moved = np.linalg.norm(v.numpy() - start[name])
        assert np.linalg.norm(model_variables(ours)[name].numpy() - v.numpy()) < 0.03 * moved, name


def test_moving_averages_move_by_the_decay():
    model = build_resnet(10, CLASSES, NetworkConfig(batch_norm_decay=0.9))
    named = model_variables(model)
    step, _ = train_step_of(model, weight_decay=0.0)
    images = batch(0)["image"]
    first = tf.nn.conv2d(
        tf.pad(images, [[0, 0], [3, 3], [3, 3], [0, 0]]), model.get_layer("init.init_conv").kernel, 2, "VALID"
    )
    step(batch(0), tf.constant(0.0))
    scope = "stages_0_block_0/conv1_b2_bn/batch_normalization/"
    np.testing.assert_allclose(named[scope + "moving_mean"], 0.1 * first.numpy().mean((0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        named[scope + "moving_variance"], 0.9 + 0.1 * first.numpy().var((0, 1, 2)), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("xla", [False, True])
def test_loss_falls(xla):
    step, state = train_step_of(build_resnet(10, CLASSES), xla=xla)
    losses = [float(step(batch(0), tf.constant(0.01))["loss"]) for _ in range(15)]
    assert losses[-1] < losses[0] / 4
    assert not any("moving_" in name for name in state.momenta)


def test_float16_skips_a_step_that_overflows_and_halves_the_scale(monkeypatch):
    monkeypatch.setattr(training_state, "STEPS_TO_DOUBLE", 3)
    step, state = train_step_of(build_resnet(10, CLASSES, NetworkConfig(precision="float16")), precision="float16")
    scale = state.variables_by_name()["loss_scale/value"]
    scale.assign(2.0**40)
    kernel = state.weights["stages_1_block_0/conv1_b2/conv2d/kernel"]
    before = kernel.numpy()
    step(batch(0), tf.constant(0.01))
    np.testing.assert_array_equal(kernel, before)
    assert float(scale) == 2.0**39
    scale.assign(2.0**6)
    for _ in range(3):
        step(batch(0), tf.constant(0.01))
    assert float(scale) == 2.0**7
    assert (kernel.numpy() != before).any() and np.isfinite(kernel.numpy()).all()


def test_float16_gradients_do_not_depend_on_the_scale():
    weights = []
    for scale in (2.0**4, 2.0**8):
        step, state = train_step_of(build_resnet(10, CLASSES, NetworkConfig(precision="float16")), precision="float16")
        state.loss_scale.value.assign(scale)
        kernel = state.weights["logits/dense/kernel"]
        before = kernel.numpy()
        step(batch(0), tf.constant(0.1))
        weights.append(kernel.numpy() - before)
    np.testing.assert_allclose(weights[0], weights[1], rtol=0.02, atol=0.01 * abs(weights[0]).max())


TRAINED = ("stages_2", "stages_3", "global_pool", "logits")


def test_frozen_layers_do_not_change_by_a_bit_and_layers_have_their_own_rates():
    """One step of a network with frozen layers, against Keras's plain gradients of the same network."""
    ours, theirs = build_resnet(10, CLASSES), build_resnet(10, CLASSES)
    for model in (ours, theirs):
        train_only(model, TRAINED)
    named = model_variables(ours)
    before = {name: v.numpy() for name, v in named.items()}
    inputs = single_batch(0)
    step, state = train_step_of(ours, SoftmaxLoss(), weight_decay=1e-2, batch_norm_weight_decay=0.1, lr_layer_decay=0.5)
    step(inputs, tf.constant(0.1))

    variables = {name: v for name, v in model_variables(theirs).items() if v.trainable}
    with tf.GradientTape() as tape:
        logits = theirs(inputs["image"], training=True)["logits"]
        value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(inputs["label"], logits))
    gradients = tape.gradient(value, [v.value for v in variables.values()])
    for (name, variable), gradient in zip(variables.items(), gradients, strict=True):
        decay = 1e-3 if "batch_normalization" in name else 1e-2
        rate = 0.025 if name.startswith("stages_2") else 0.05 if name.startswith("stages_3") else 0.1
        expected = before[name] - rate * (gradient.numpy() + decay * variable.numpy())
        moved = np.abs(expected - before[name]).max()
        np.testing.assert_allclose(named[name].numpy(), expected, atol=0.01 * moved, err_msg=name)
    for name, value in before.items():
        changed = (named[name].numpy() != value).any()
        assert changed == name.startswith(TRAINED), name  # the statistics of batch normalisation included
        assert (f"{name}/Momentum" in state.variables_by_name()) == (name in variables)


def test_dropout_follows_seed_step_and_rank():
    def loss_of(seed=1, rank=0, steps=1, rate=0.5):
        """The loss of a network that is its last layers alone."""
        images = keras.Input((64, 64, 3))
        feature = keras.layers.Flatten()(keras.layers.AveragePooling2D(16)(images))
        dense = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(5), name="logits")
        model = keras.Model(images, {"feature": feature, "logits": dense(feature)})
        step, state = train_step_of(model, SoftmaxLoss(), rank=rank, weight_decay=0, drop_rate=rate, random_seed=seed)
        state.step.assign(steps)
        return float(step(single_batch(0), tf.constant(0.0))["loss"])

    first = loss_of()
    assert loss_of() == pytest.approx(first, rel=1e-5)
    others = [loss_of(seed=2), loss_of(rank=1), loss_of(steps=2), loss_of(rate=0.0)]
    assert all(abs(other - first) > 1e-4 for other in others)


def test_augmentation_and_average_of_the_weights_are_part_of_the_step():
    class Noisy(Classification):
        def augment(self, batch, seed):
            return batch | {"image": batch["image"] * tf.random.stateless_uniform(batch["image"].shape, seed)}

    losses = []
    for kind in (Classification, Noisy, Noisy):
        task = kind(model=build_resnet(10, CLASSES), kind="sparse", loss=WeightedSigmoidLoss(CLASSES))
        state = TrainState(task, ema_decay=0.9)
        step = make_train_step(task, state, StepConfig(1e-4))
        losses.append([float(step(batch(0), tf.constant(0.01))["loss"]) for _ in range(2)])
    assert losses[1] == pytest.approx(losses[2], rel=1e-5) and abs(losses[0][0] - losses[1][0]) > 1e-3
    averages = state.variables_by_name()
    name = "logits/dense/kernel"
    assert int(averages["weight_average/steps"]) == 2
    assert (averages[f"{name}/ExponentialMovingAverage"].numpy() != state.weights[name].numpy()).any()


@pytest.mark.parametrize(
    "precision, options",
    [
        ("float32", {"accumulate_steps": 2}),
        ("float16", {}),
        pytest.param("bfloat16", {"xla": True}, marks=pytest.mark.slow),
    ],
)
def test_images_that_come_as_bytes_are_augmented_in_the_step(precision, options):
    """The loss is that of images that were augmented before it, by the numbers that came with them."""
    random = np.random.default_rng(0)
    least, most = [0, -0.7, -0.1, 0.5, 0.5, -0.2, 0.5], [1, 0.7, 0.1, 1.5, 1.5, 0.2, 1.5]
    inputs = batch(0) | {"image": tf.constant(random.integers(0, 256, (8, 64, 64, 3), np.uint8))}
    drawn = tf.constant(random.uniform(least, most, (8, 7)), tf.float32)

    def losses_of(where, *batches):
        model = build_resnet(10, CLASSES, NetworkConfig(precision=precision))
        augmentation = Augmentation(augment_on=where)
        task = Classification(model=model, kind="sparse", loss=MultiLabelLoss(), augmentation=augmentation)
        step = make_train_step(task, TrainState(task, precision), StepConfig(1e-4, **options))
        return [float(step(inputs | images, tf.constant(0.0))["loss"]) for images in batches]

    of_bytes, of_others = losses_of("device", {"drawn": drawn}, {"drawn": drawn[::-1]})
    [expected] = losses_of("host", {"image": augmented(inputs["image"], drawn)})
    tolerance = 1e-5 if precision == "float32" else 1e-3
    assert of_bytes == pytest.approx(expected, rel=tolerance) != of_others


def gradients_by_hand(model, inputs, weights):
    """Gradients by name of the mean over the parts of a batch, each with its weights of the classes."""
    named = {name: v.value for name, v in model_variables(model).items() if v.trainable}
    loss = WeightedSigmoidLoss(CLASSES)
    with tf.GradientTape() as tape:
        values = []
        for k, of_part in enumerate(weights):
            part = {name: tf.split(x, len(weights))[k] for name, x in inputs.items() if name != "name"}
            values.append(loss(part, model(part["image"], training=True), of_part))
        value = tf.add_n(values) / len(values)
    return value, dict(zip(named, tape.gradient(value, list(named.values())), strict=True))


def test_each_part_has_its_own_weights():
    model, inputs = build_resnet(10, CLASSES), batch(0)
    spread = Spread(parts=2)
    losses = [WeightedSigmoidLoss(CLASSES, LossConfig(0.7, 0.5, presence="part"), spread=spread) for _ in range(2)]
    weights = losses[0].count(inputs, tf.constant(0, tf.int64))
    assert (weights[0] != weights[1]).numpy().any()
    value, gradients = gradients_by_hand(model, inputs, tf.unstack(weights))
    step, state = train_step_of(model, losses[1], weight_decay=0.0, accumulate_steps=2)
    result = step(inputs, tf.constant(0.0))
    np.testing.assert_allclose(result["loss"], value, rtol=1e-4)
    for name, gradient in gradients.items():
        difference = np.linalg.norm(state.momenta[name] - gradient)
        assert difference <= 1e-3 * np.linalg.norm(gradient) + 1e-6, name


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("share", [0.25, 4.0])
def test_gradients_are_scaled_down_to_the_norm_but_not_up(precision, share):
    """Their mean over ranks and without the loss scale; the decay is added afterwards."""
    model, inputs = build_resnet(10, CLASSES), batch(0)
    begun = {name: v.numpy() for name, v in model_variables(model).items()}
    weights = WeightedSigmoidLoss(CLASSES).count(inputs, tf.constant(0, tf.int64))
    _, gradients = gradients_by_hand(model, inputs, [weights])
    norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients.values()))
    step, state = train_step_of(model, precision=precision, weight_decay=1e-3, clip_norm=share * norm)
    step(inputs, tf.constant(0.0))
    for name, gradient in gradients.items():
        decay = 0 if "batch_normalization" in name else 1e-3 * begun[name]
        expected = gradient * min(1, share) + decay
        assert np.linalg.norm(state.momenta[name] - expected) <= 1e-3 * np.linalg.norm(expected) + 1e-6, name
