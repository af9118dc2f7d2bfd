"""models/deeplab.py: the network's own trunk and weights, its layouts, and where its values are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import deeplab
from models.checkpoint import model_variables
from models.deeplab import DeepLabConfig, build_deeplab
from models.resnet import NetworkConfig, build_resnet

IMAGES = tf.random.stateless_uniform([2, 65, 97, 3], [0, 1], -1, 1)


def parts(network, name):
    return keras.Model(network.input, network.get_layer(name).output)


@pytest.mark.parametrize("size", [10, 50])
def test_at_stride_32_it_sees_what_the_classification_network_sees(size):
    ours, classification = build_deeplab(size, 4, config=DeepLabConfig(32)), build_resnet(size, 3)
    name = "global_pool.bn_relu"
    np.testing.assert_array_equal(parts(ours, name)(IMAGES), parts(classification, name)(IMAGES))


@pytest.mark.parametrize("decoder", [False, True])
def test_variables_are_the_networks_and_new_ones(decoder):
    network, ours = (
        model_variables(build_resnet(10, 3)),
        model_variables(build_deeplab(10, 4, config=DeepLabConfig(8, decoder))),
    )
    assert {n for n in network if not n.startswith("logits/")} == {
        n for n in ours if not n.startswith(deeplab.NEW_SCOPES)
    }
    for name in ours:
        if not name.startswith(deeplab.NEW_SCOPES):
            np.testing.assert_array_equal(ours[name], network[name])


@pytest.mark.parametrize(
    ("output_stride", "decoder", "shape"),
    [(32, False, (3, 4)), (16, False, (5, 7)), (8, False, (9, 13)), (8, True, (17, 25))],
)
def test_shapes(output_stride, decoder, shape):
    network = build_deeplab(10, 4, config=DeepLabConfig(output_stride, decoder))
    assert network(IMAGES).shape == (2, *shape, 4)


def test_the_dilations_of_resnet_50():
    """Multi-grid in the last stage, twice as far at stride 8; the rates of ASPP likewise (Chen et al. 2017)."""

    def rates(output_stride):
        network = build_deeplab(50, 4, config=DeepLabConfig(output_stride))
        grid = [network.get_layer(f"stages_3_block_{k}.conv2_b2").dilation_rate[0] for k in range(3)]
        return grid, [network.get_layer(f"aspp.dilated_{k}").dilation_rate[0] for k in range(3)]

    # The first block of a stage that is not strided comes before what the missing stride would have thinned out.
    assert rates(16) == ([1, 4, 8], [6, 12, 18])
    assert rates(8) == ([2, 8, 16], [12, 24, 36])


def test_enlarging_leaves_values_where_they_are():
    """A map whose value is the pixel of its cell, in an image of 16 k + 1 pixels: each pixel gets its own place."""
    cells = tf.stack(tf.meshgrid(tf.range(5.0) * 16, tf.range(3.0) * 16), axis=-1)[None]
    large = deeplab.enlarged(cells, [33, 65])[0]
    np.testing.assert_allclose(large, np.stack(np.meshgrid(np.arange(65), np.arange(33)), axis=-1), atol=1e-4)


def test_frozen_batch_normalisation_is_that_of_the_checkpoint_alone():
    network = build_deeplab(10, 4)
    deeplab.freeze_batch_norm(network)
    trained = set(model_variables(network)) & {n for n in model_variables(network) if "bn/" in n or "batch_norm" in n}
    assert trained
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.trainable == layer.name.startswith("aspp.")


def test_channels_first_and_low_precision_are_built_alike():
    network = build_deeplab(10, 4, NetworkConfig("channels_first", "bfloat16"), DeepLabConfig(16, True))
    assert network.output.shape == (None, None, None, 4) and network.output.dtype == "float32"
    assert set(model_variables(network)) == set(model_variables(build_deeplab(10, 4, config=DeepLabConfig(16, True))))
