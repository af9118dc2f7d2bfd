"""The network against DESIGN section 4 written anew in NumPy, float64, from the variables' TensorFlow-1 names alone."""

import numpy as np
import pytest
import tensorflow as tf

from models.checkpoint import model_variables
from models.resnet import DEPTHS, NetworkConfig, build_last_stage, build_resnet, resolve_data_format

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
WIDTHS = {10: 128, 18: 512, 34: 512, 50: 2048}


def randomise(model, seed=0):
    """Gives every variable a random value of a useful size, so that none can be left out without a difference."""
    random = np.random.default_rng(seed)
    for name, variable in model_variables(model).items():
        if name.endswith("kernel"):
            value = random.normal(0, np.prod(variable.shape[:-1]) ** -0.5, variable.shape)
        elif name.endswith(("gamma", "moving_variance")):
            value = random.uniform(0.5, 1.5, variable.shape)
        else:
            value = random.normal(0, 0.2, variable.shape)
        variable.assign(value)
    return {name: variable.numpy().astype(np.float64) for name, variable in model_variables(model).items()}


def convolve(x, kernel, stride):
    """Explicit padding (k - 1) // 2 before and the rest after, for every stride: for odd k it is SAME at stride 1."""
    k = kernel.shape[0]
    before = (k - 1) // 2
    x = np.pad(x, ((0, 0), (before, k - 1 - before), (before, k - 1 - before), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True)


def numpy_resnet(images, v, blocks, bottleneck):
    def bn_relu(x, scope):
        scope += "/batch_normalization/"
        x = (x - v[scope + "moving_mean"]) / np.sqrt(v[scope + "moving_variance"] + 1e-5)
        return np.maximum(x * v[scope + "gamma"] + v[scope + "beta"], 0)

    def conv(x, scope, stride):
        return convolve(x, v[scope + "/conv2d/kernel"], stride)

    x = conv(images, "init/init_conv", 2)
    for i, count in enumerate(blocks):
        for j in range(count):
            scope = f"stages_{i}_block_{j}/"
            stride = 2 if j == 0 else 1
            shortcut = conv(bn_relu(x, scope + "conv1_b1_bn"), scope + "conv1_b1", 2) if j == 0 else x
            for n, s in [(1, 1), (2, stride), (3, 1)] if bottleneck else [(1, stride), (2, 1)]:
                x = conv(bn_relu(x, f"{scope}conv{n}_b2_bn"), f"{scope}conv{n}_b2", s)
            x = x + shortcut
    feature = bn_relu(x, "global_pool/bn").mean((1, 2))
    return feature, feature @ v["logits/dense/kernel"] + v["logits/dense/bias"]


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("size", "shape"), [(10, (2, 64, 96)), (18, (2, 64, 64)), (34, (1, 50, 71)), (50, (2, 65, 64))]
)
def test_feature_and_logits_against_numpy(size, shape):
    model = build_resnet(size, 7)
    variables = randomise(model)
    images = np.random.default_rng(1).uniform(-1, 1, (*shape, 3))
    outputs = model(images.astype(np.float32), training=False)
    feature, logits = numpy_resnet(images, variables, BLOCKS[size], size >= 50)
    assert outputs["feature"].shape == (shape[0], WIDTHS[size])
    assert relative_error(outputs["feature"], feature) < 1e-5
    assert relative_error(outputs["logits"], logits) < 1e-5


def test_resnet_101_has_the_published_variables():
    variables = model_variables(build_resnet(101, 1000))
    assert len(variables) == 522
    assert sum(int(np.prod(v.shape)) for v in variables.values()) == 44_646_568
    assert variables["init/init_conv/conv2d/kernel"].shape == (7, 7, 3, 64)
    assert variables["stages_2_block_22/conv3_b2/conv2d/kernel"].shape == (1, 1, 256, 1024)
    assert variables["stages_3_block_0/conv1_b1_bn/batch_normalization/moving_variance"].shape == (1024,)
    assert "stages_3_block_1/conv1_b1/conv2d/kernel" not in variables


@pytest.mark.parametrize("size", [152, 200])
def test_depth_of_the_large_ones(size):
    # Two or three convolutions a block, and the first and the dense layer: the number in the name.
    assert 2 + sum(DEPTHS[size].blocks) * 3 == size
    model = build_resnet(size, 3)
    kernels = [name for name in model_variables(model) if name.endswith("kernel") and "conv1_b1/" not in name]
    assert len(kernels) == size
    assert model.compute_output_shape((1, 224, 224, 3))["logits"] == (1, 3)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_mixed_precision_has_float32_weights_and_outputs(precision, tolerance):
    exact, mixed = build_resnet(18, 5), build_resnet(18, 5, NetworkConfig(precision=precision))
    images = tf.random.stateless_uniform([2, 64, 64, 3], [1, 2], -1, 1)
    expected, outputs = exact(images), mixed(images)
    assert {variable.dtype for variable in mixed.variables} == {"float32"}
    assert mixed.get_layer("stages_1_block_0.conv1_b2").compute_dtype == precision
    for name in ("feature", "logits"):
        assert outputs[name].dtype == tf.float32
        assert 0 < relative_error(outputs[name], expected[name]) < tolerance


def test_channels_first_is_the_same_function():
    """A CPU has no NCHW convolutions, so this compares what it can: shapes and variables of the graph."""
    first, last = build_resnet(50, 5, NetworkConfig("channels_first")), build_resnet(50, 5)
    assert {n: v.shape for n, v in model_variables(first).items()} == {
        n: v.shape for n, v in model_variables(last).items()
    }
    shapes = [model.compute_output_shape((2, 96, 64, 3)) for model in (first, last)]
    for name, (batch, *places, channels) in ((n, shape) for n, shape in shapes[1].items() if len(shape) == 4):
        assert shapes[0].pop(name) == (batch, channels, *places)
    assert shapes[0] == {name: shapes[1][name] for name in ("feature", "logits")}
    assert first.get_layer("init.init_conv").data_format == "channels_first"
    if tf.config.list_physical_devices("GPU"):
        randomise(first), randomise(last)
        images = tf.random.stateless_uniform([2, 96, 64, 3], [1, 2], -1, 1)
        assert relative_error(first(images)["logits"], last(images)["logits"]) < 1e-4


def crops_of(network, config=NetworkConfig()):
    """What leaves stages_2 of a network, and its last stage alone with the same weights."""
    alone = build_last_stage(int(network.name.removeprefix("resnet_")), config, strides=2)
    named = model_variables(network)
    for name, variable in model_variables(alone).items():
        variable.assign(named[name])
    return alone


@pytest.mark.parametrize("size", [10, 50])
def test_what_leaves_each_stage(size):
    model = build_resnet(size, 7)
    randomise(model)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 65, 96, 3)).astype(np.float32)
    outputs = model(images)
    channels = [16, 32, 64, 128] if size == 10 else [256, 512, 1024, 2048]
    for stage, width in enumerate(channels):
        stride = 4 * 2**stage
        assert outputs[f"stages_{stage}"].shape == (2, -(-65 // stride), -(-96 // stride), width)
    # The last stage alone continues from there, with variables of the same names.
    alone = crops_of(model)
    assert set(model_variables(alone)) == {n for n in model_variables(model) if n.startswith(("stages_3", "global_"))}
    for name, tensor in alone(outputs["stages_2"]).items():
        assert relative_error(tensor, outputs[name]) < 1e-6


def test_last_stage_keeps_the_size_of_crops():
    crops = tf.random.stateless_uniform([5, 7, 7, 1024], [1, 2])
    outputs = build_last_stage(50)(crops)
    assert outputs["stages_3"].shape == (5, 7, 7, 2048) and outputs["feature"].shape == (5, 2048)
    seeds = [build_last_stage(10, seed=seed).get_layer("stages_3_block_0.conv1_b2").kernel for seed in (1, 1, 2)]
    whole = build_resnet(10, 3, seed=2).get_layer("stages_3_block_0.conv1_b2").kernel
    np.testing.assert_array_equal(seeds[0], seeds[1])
    np.testing.assert_array_equal(seeds[2], whole)
    assert (seeds[0].numpy() != seeds[2].numpy()).any()


@pytest.mark.parametrize("size", [10, 18, 50])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_stages_see_the_same_pixels_more_densely(size, output_stride):
    """Every second (or fourth) value of a dilated network is that of the strided one with the same weights."""
    strided, dilated = build_resnet(size, 3), build_resnet(size, 3, output_stride=output_stride)
    variables = randomise(strided)
    for name, variable in model_variables(dilated).items():
        variable.assign(variables[name])
    images = np.random.default_rng(1).uniform(-1, 1, (1, 96, 128, 3)).astype(np.float32)
    expected, dense = strided(images), dilated(images)
    assert dense["stages_3"].shape[1:3] == (96 // output_stride, 128 // output_stride)
    for stage in range(4):
        step = max(1, 4 * 2**stage // output_stride)
        assert relative_error(dense[f"stages_{stage}"][:, ::step, ::step], expected[f"stages_{stage}"]) < 1e-5


def test_seed():
    kernels = [build_resnet(18, 5, seed=seed).get_layer("logits").kernel.numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()


def test_initialiser_keeps_the_variance_of_a_layer():
    kernel = model_variables(build_resnet(50, 5))["stages_3_block_2/conv2_b2/conv2d/kernel"].numpy()
    assert kernel.std() == pytest.approx((9 * 512) ** -0.5, rel=0.01)
    assert abs(kernel).max() < 2.3 * kernel.std()  # truncated


def test_data_format(capsys):
    assert resolve_data_format("NHWC") == resolve_data_format("channels_last") == "channels_last"
    assert capsys.readouterr().out == ""
    if not tf.config.list_physical_devices("GPU"):
        assert resolve_data_format("NCHW") == "channels_last"
        assert "--data_format=NCHW needs a GPU" in capsys.readouterr().out
    with pytest.raises(ValueError, match="NCWH"):
        resolve_data_format("NCWH")


def test_unknown_size():
    with pytest.raises(ValueError, match="resnet_size=99.*18, 34"):
        build_resnet(99, 5)
    with pytest.raises(ValueError, match="--output_stride=4: choose one of 32, 16, 8"):
        build_resnet(18, 5, output_stride=4)
