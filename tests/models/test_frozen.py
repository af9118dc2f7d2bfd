"""A folded network against the network itself, with statistics that batch normalisation has after training."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import inference
from models.deeplab import DeepLabConfig, build_deeplab
from models.frozen import fold
from models.resnet import NetworkConfig, build_resnet

CLASSES = 5


def trained(model):
    """The model with other scales, offsets, means and variances in each batch normalisation, and some signs changed."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]
            layer.gamma.assign(rng.uniform(0.5, 1.5, width) * np.where(rng.random(width) < 0.1, -1, 1))
            layer.beta.assign(rng.normal(0, 0.3, width))
            layer.moving_mean.assign(rng.normal(0, 0.3, width))
            layer.moving_variance.assign(rng.uniform(0.5, 2, width))
    return model


def images_of(rows, size=64):
    return np.random.default_rng(rows).uniform(-1, 1, [rows, size, size, 3]).astype(np.float32)


def assert_close(found, expected, tolerance):
    """That no difference is more than `tolerance` times the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("resnet_size", [10, 18, 50])
def test_features_and_scores_are_the_networks(resnet_size):
    model, images = trained(build_resnet(resnet_size, CLASSES)), images_of(2, 32)
    expected = model(images, training=False)
    folded = fold(model)
    assert_close(inference.output_function(folded, "feature")(images), expected["feature"], 1e-5)
    scores = inference.score_function(folded, "sigmoid")(images)
    np.testing.assert_allclose(scores, tf.sigmoid(expected["logits"]), rtol=0, atol=1e-5)
    assert np.std(scores, axis=0).max() > 1e-4


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 1e-2), ("float16", 2e-3)])
def test_16_bits(precision, tolerance):
    """The features' difference from those in float32, as a share of their length; it is not 0."""
    model, images = trained(build_resnet(10, CLASSES)), images_of(2)
    half = build_resnet(10, CLASSES, NetworkConfig(precision=precision))
    half.set_weights(model.get_weights())
    expected = model(images, training=False)["feature"].numpy()
    features = inference.output_function(fold(half), "feature")(images).numpy()
    assert features.dtype == np.float32
    assert 0 < np.linalg.norm(features - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_left_of_normalisation(precision):
    """ResNet-10 has 13: the 4 inside of its blocks are folded, and casts stand only at the network's ends."""
    folded = fold(trained(build_resnet(10, CLASSES, NetworkConfig(precision=precision))))
    graph = tf.function(lambda images: folded(images)["feature"]).get_concrete_function(
        tf.TensorSpec([None, 64, 64, 3])
    )
    ops = Counter(op.type for op in graph.graph.get_operations())
    assert not graph.captured_inputs  # no variable is read
    assert (ops["Conv2D"], ops["BiasAdd"], ops["FusedBatchNormV3"]) == (13, 4 + 1, 9)  # the one is the logits'
    assert ops["Cast"] == (2 if precision == "bfloat16" else 0) and not ops["Mul"] and not ops["Rsqrt"]


def test_masks():
    """A network with dilated convolutions, several maps joined, and layers of our own."""
    model, images = trained(build_deeplab(10, CLASSES, config=DeepLabConfig(8, True))), images_of(1, 65)
    assert_close(tf.function(fold(model))(images), model(images, training=False).numpy(), 1e-5)


def test_convolutions_with_a_bias_and_other_layers():
    """Keras's layout: biases, pooling, a normalisation without scale, a map that is read twice, a final softmax."""
    images = keras.Input([16, 16, 3])
    x = keras.layers.Conv2D(8, 3, name="read_twice", bias_initializer="normal")(images)
    y = keras.layers.BatchNormalization(center=False)(x)
    y = keras.layers.Conv2D(8, 3, padding="same", bias_initializer="normal")(y)
    y = keras.layers.BatchNormalization()(y)
    x = keras.layers.MaxPooling2D()(keras.layers.Concatenate()([x, y]))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, activation="relu")(x))
    x = keras.layers.BatchNormalization()(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, keras.layers.Dense(4, activation="softmax")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    assert_close(fold(model)(images_of(3, 16)), model(images_of(3, 16), training=False).numpy(), 1e-5)


def test_later_weights_do_not_count_and_training_is_an_error():
    model, images = trained(build_resnet(10, CLASSES)), images_of(1, 32)
    folded = fold(model)
    before = folded(images)["logits"].numpy()
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    np.testing.assert_array_equal(folded(images)["logits"], before)
    assert before.any()
    with pytest.raises(ValueError, match="cannot be trained"):
        folded(images, training=True)
