"""The detector as a whole: its variables, what depends on what, what is trained, and its checkpoint in use."""

import numpy as np
import pytest
import tensorflow as tf

from losses.detection import DetectionLoss
from models import checkpoint, inference
from models.checkpoint import CheckpointError, model_variables
from models.faster_rcnn import DetectorConfig, build_detector, freeze
from models.resnet import DEPTHS, NetworkConfig, build_resnet
from tests.models.test_resnet import randomise

CLASSES = 3
CONFIG = DetectorConfig((16, 32, 64), regions=16, proposals=20)
SIZES = [[96, 128], [64, 80], [70, 128]]


def batch_of(count=3, height=96, width=128):
    """Random images of `SIZES`, padded, of two objects, one, and none."""
    random = np.random.default_rng(0)
    images = np.zeros([count, height, width, 3], np.float32)
    for image, (rows, columns) in zip(images, SIZES, strict=False):
        image[:rows, :columns] = random.uniform(-1, 1, [rows, columns, 3])
    box = [[[10, 20, 60, 70], [40, 5, 120, 80]], [[5, 5, 50, 60], [0, 0, 0, 0]], [[0] * 4] * 2]
    return {
        "image": tf.constant(images),
        "size": tf.constant(SIZES[:count]),
        "box": tf.constant(box[:count], tf.float32),
        "label": tf.constant([[0, 2], [1, -1], [-1, -1]][:count], tf.int64),
        "difficult": tf.zeros([count, 2], tf.bool),
        "seed": tf.constant([[1, k] for k in range(count)], tf.int64),
    }


def rows(batch, which):
    return {name: tf.gather(x, which) for name, x in batch.items()}


@pytest.fixture(scope="module")
def detector():
    detector = build_detector(10, CLASSES, config=CONFIG)
    randomise(detector.model)
    # Scores and boxes that differ: as random weights would have them, they are all but equal.
    for name, variable in model_variables(detector.model).items():
        if name.startswith(("rpn/", "regions/")):
            variable.assign(variable * (0.3 if "offsets" in name else 1))
    return detector


@pytest.fixture(scope="module")
def gradients(detector):
    """The compiled function from a batch to outputs, terms, and gradients by the names of variables."""
    variables = {n: v for n, v in model_variables(detector.model).items() if v.trainable}

    @tf.function(autograph=False, reduce_retracing=True)
    def function(batch):
        with tf.GradientTape() as tape:
            outputs = detector.training_outputs(batch)
            terms = DetectionLoss()(batch, outputs, None)
            value = tf.add_n(list(terms.values()))
        names = list(variables)
        return outputs, terms, dict(zip(names, tape.gradient(value, [variables[n] for n in names]), strict=True))

    return function


def test_variables_are_a_classification_networks_and_the_heads(tmp_path):
    """All of a checkpoint's but the logits, bit for bit, and nothing else of the network."""
    network = build_resnet(10, 7, seed=5)
    held = randomise(network, seed=6)
    prefix = checkpoint.save(tmp_path, 1, model_variables(network), 1)
    detector = build_detector(10, CLASSES, config=CONFIG)
    variables = model_variables(detector.model)
    shared = {name for name in held if not name.startswith("logits/")}
    new = {"rpn/conv/conv2d", "rpn/objectness/conv2d", "rpn/offsets/conv2d"}
    new |= {"regions/classes/dense", "regions/offsets/dense"}
    assert set(variables) == shared | {f"{scope}/{name}" for scope in new for name in ("kernel", "bias")}
    assert variables["rpn/objectness/conv2d/kernel"].shape == (1, 1, 512, 9)
    assert variables["regions/classes/dense/kernel"].shape == (128, CLASSES + 1)
    assert variables["regions/offsets/dense/kernel"].shape == (128, 4 * CLASSES)
    checkpoint.restore_pretrained(prefix, variables, ("rpn/", "regions/"))
    for name in shared:
        np.testing.assert_array_equal(variables[name].numpy(), held[name].astype(np.float32))


def test_first_weights_are_drawn_by_layer_and_as_widely_as_the_reference_says():
    def drawn(seed):
        variables = model_variables(build_detector(18, 30, config=CONFIG, seed=seed).model)
        return {n: v.numpy() for n, v in variables.items() if n.startswith(("rpn/", "regions/"))}

    values, other = drawn(1), drawn(2)
    for name, value in values.items():
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert np.std(value) == pytest.approx(0.001 if name.startswith("regions/offsets") else 0.01, rel=0.05)
            assert not np.array_equal(value, other[name])
    backbone = model_variables(build_resnet(18, 4, seed=1))
    built = model_variables(build_detector(18, 30, config=CONFIG, seed=1).model)
    for name in ("init/init_conv/conv2d/kernel", "stages_3_block_1/conv2_b2/conv2d/kernel"):
        np.testing.assert_array_equal(built[name], backbone[name])


def test_training_outputs(gradients):
    outputs, terms, by_name = gradients(batch_of())
    assert outputs["rpn_logits"].shape == (3, 6 * 8 * 9) and outputs["rpn_targets"].shape == (3, 6 * 8 * 9, 4)
    assert outputs["region_logits"].shape == (3, 16, CLASSES + 1) and outputs["region_offsets"].shape == (3, 16, 4)
    labels = outputs["region_labels"].numpy()
    assert ((labels >= 0) & (labels < CLASSES)).sum(1).tolist() == [4, 4, 0]
    assert set(labels[0]) <= {0, 2, CLASSES} and set(labels[1]) <= {1, CLASSES} and set(labels[2]) == {CLASSES}
    assert not outputs["region_targets"].numpy()[labels == CLASSES].any()
    assert all(x.dtype in (tf.float32, tf.int32) for x in outputs.values())
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    assert all(np.isfinite(gradient).all() and gradient.numpy().any() for gradient in by_name.values())


def test_a_sample_depends_on_its_image_and_seed_alone(gradients):
    whole, *_ = gradients(batch_of())
    again, *_ = gradients(batch_of())
    turned, *_ = gradients(rows(batch_of(), [2, 0]))
    for name in ("rpn_labels", "region_labels", "region_targets"):
        np.testing.assert_array_equal(whole[name], again[name])
        np.testing.assert_allclose(turned[name], tf.gather(whole[name], [2, 0]), atol=1e-4)
    other, *_ = gradients(batch_of() | {"seed": tf.constant([[2, k] for k in range(3)], tf.int64)})
    # Of so few anchors all are sampled, but of regions 16.
    assert not np.array_equal(whole["region_targets"], other["region_targets"])


def test_the_mean_over_two_processes_is_the_gradient_of_one(gradients):
    """Of batch 1 and 2, or of both: the same terms and the same gradient."""
    _, terms, whole = gradients(rows(batch_of(), [0, 1]))
    halves = [gradients(rows(batch_of(), [k])) for k in range(2)]
    for name, value in terms.items():
        np.testing.assert_allclose(value, np.mean([half[1][name] for half in halves]), rtol=1e-4)
    for name, gradient in whole.items():
        mean = np.mean([half[2][name] for half in halves], axis=0)
        assert np.linalg.norm(gradient - mean) <= 1e-3 * np.linalg.norm(mean), name


def test_steps_against_the_gradient_lower_the_loss(detector, gradients):
    """With the statistics of batch normalisation frozen; each step is as long as a tenth of the loss is worth."""
    variables = model_variables(detector.model)
    before, losses = {name: variable.numpy() for name, variable in variables.items()}, []
    for _ in range(8):
        _, terms, by_name = gradients(batch_of())
        losses.append(sum(map(float, terms.values())))
        squares = sum(float(tf.reduce_sum(gradient**2)) for gradient in by_name.values())
        for name, gradient in by_name.items():
            variables[name].assign_sub(0.1 * losses[-1] / squares * gradient)
    moved = {name for name, value in before.items() if not np.array_equal(variables[name], value)}
    for name, value in before.items():
        variables[name].assign(value)
    assert moved == set(by_name) and losses[-1] < 0.8 * losses[0], losses


@pytest.mark.parametrize("sizes", [[[0, 0]] * 3, [[96, 128], [0, 0], [64, 64]]])
def test_blank_images_and_images_without_objects_have_no_nan(gradients, sizes):
    nothing = {
        "size": tf.constant(sizes),
        "box": tf.zeros([3, 0, 4]),
        "label": tf.zeros([3, 0], tf.int64),
        "difficult": tf.zeros([3, 0], tf.bool),
    }
    outputs, terms, by_name = gradients(batch_of() | nothing)
    for k, size in enumerate(sizes):
        if not any(size):
            assert (outputs["rpn_labels"][k].numpy() == -1).all() and (outputs["region_labels"][k].numpy() == -1).all()
    blank = not np.any(sizes)
    assert all((float(value) == 0) if blank or "box" in name else value > 0 for name, value in terms.items())
    assert all(np.isfinite(gradient).all() for gradient in by_name.values())
    assert not blank or not any(gradient.numpy().any() for gradient in by_name.values())


def test_difficult_objects_make_neither_positives_nor_negatives(gradients):
    outputs, terms, _ = gradients(batch_of() | {"difficult": tf.ones([3, 2], tf.bool)})
    assert not (outputs["rpn_labels"].numpy() == 1).any()
    assert set(outputs["region_labels"].numpy().ravel()) <= {CLASSES, -1}
    assert float(terms["rpn_box"]) == float(terms["region_box"]) == 0


def test_what_is_frozen_has_no_gradient_and_keeps_its_statistics():
    detector = build_detector(10, CLASSES, config=CONFIG)
    freeze(detector)
    frozen = {n: v.numpy() for n, v in model_variables(detector.model).items() if not v.trainable}
    kernels = {n for n in frozen if n.endswith("kernel")}
    assert kernels == {"init/init_conv/conv2d/kernel"} | {
        f"stages_0_block_0/{conv}/conv2d/kernel" for conv in ("conv1_b1", "conv1_b2", "conv2_b2")
    }
    assert {n for n in model_variables(detector.model) if "batch_normalization" in n} == set(frozen) - kernels
    trained = detector.model.trainable_variables
    with tf.GradientTape() as tape:
        outputs = detector.training_outputs(batch_of(), batch_norm_training=True)
        value = tf.add_n(list(DetectionLoss()({}, outputs, None).values()))
    assert all(gradient is not None for gradient in tape.gradient(value, trained))
    for name, before in frozen.items():
        np.testing.assert_array_equal(model_variables(detector.model)[name], before)


def test_statistics_move_when_the_batchs_are_used_and_only_then():
    detector = build_detector(10, CLASSES, config=CONFIG)
    moving = {n: v for n, v in model_variables(detector.model).items() if "/moving_" in n}
    before = {n: v.numpy() for n, v in moving.items()}
    detector.training_outputs(batch_of())
    detector.detect(batch_of()["image"], batch_of()["size"])
    assert all(np.array_equal(v, before[n]) for n, v in moving.items())
    detector.training_outputs(batch_of(), batch_norm_training=True)
    assert not any(np.array_equal(v, before[n]) for n, v in moving.items())


def test_an_images_detections_do_not_depend_on_the_others(detector):
    batch = batch_of()
    traces = []

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None] * 3 + [3]), tf.TensorSpec([None, 2], tf.int32)])
    def detect(images, sizes):
        traces.append(None)
        return detector.detect(images, sizes)

    together = detect(batch["image"], batch["size"])
    assert together["boxes"].shape == (3, 100, 4) and together["classes"].dtype == tf.int32
    for k, (height, width) in enumerate(SIZES):
        alone = detect(batch["image"][k : k + 1], batch["size"][k : k + 1])
        for name, x in alone.items():
            np.testing.assert_allclose(x[0], together[name][k], rtol=1e-3, atol=1e-3)
        box, score, label = (together[name].numpy()[k] for name in ("boxes", "scores", "classes"))
        there = label >= 0
        assert there.any() and not score[~there].any() and (np.diff(score[there]) <= 0).all()
        assert (box >= 0).all() and (box[:, 2] <= width).all() and (box[:, 3] <= height).all()
        assert (box[there, 2:] > box[there, :2]).all()
    small = detect(batch["image"][:1, :64, :64], tf.constant([[64, 64]]))  # fewer anchors than proposals elsewhere
    assert (small["classes"].numpy() >= 0).any()
    blank = detect(tf.zeros([1, 64, 64, 3]), tf.constant([[0, 0]]))
    assert (blank["classes"].numpy() == -1).all()
    assert len(traces) == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_boxes_and_losses_in_float32(detector, precision):
    half = build_detector(10, CLASSES, NetworkConfig(precision=precision), CONFIG)
    for mine, its in zip(half.model.variables, detector.model.variables, strict=True):
        mine.assign(its)
    assert half.trunk.output.dtype == precision
    batch = rows(batch_of(), [0])
    outputs, expected = half.training_outputs(batch), detector.training_outputs(batch)
    assert {name: x.dtype for name, x in outputs.items()} == {name: x.dtype for name, x in expected.items()}
    np.testing.assert_array_equal(outputs["rpn_labels"], expected["rpn_labels"])
    error = np.std(outputs["rpn_offsets"] - expected["rpn_offsets"]) / np.std(expected["rpn_offsets"])
    assert 0 < error < 0.1
    assert half.detect(batch["image"], batch["size"])["boxes"].dtype == tf.float32


def test_channels_first_has_the_same_variables_and_outputs(detector):
    """Forwards, which oneDNN does on a CPU, too."""
    first = build_detector(10, CLASSES, NetworkConfig("channels_first"), CONFIG)
    variables = model_variables(detector.model)
    for name, variable in model_variables(first.model).items():
        variable.assign(variables.pop(name))
    assert not variables and first.trunk.output.shape == (None, 64, None, None)
    batch = batch_of()
    seen = (x.training_outputs(batch) | x.detect(batch["image"], batch["size"]) for x in (first, detector))
    for (name, x), expected in zip(next(seen).items(), next(seen).values(), strict=True):
        assert np.any(expected), name
        np.testing.assert_allclose(x, expected, rtol=1e-3, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("size", [18, 50])
def test_larger_networks_run(size):
    detector = build_detector(size, CLASSES, config=CONFIG)
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, [1, 64, 64, 3]), tf.float32)
    found = detector.detect(images, tf.constant([[64, 64]]))
    assert np.isfinite(found["boxes"]).all() and found["scores"].shape == (1, 100)


@pytest.mark.parametrize("size", sorted(set(DEPTHS) - {10, 18, 50}))
def test_all_sizes_are_built(size, monkeypatch):
    """Weights of zeros, since they are drawn for seconds otherwise."""
    monkeypatch.setattr("keras.initializers.VarianceScaling.__call__", lambda self, shape, dtype=None: tf.zeros(shape))
    detector = build_detector(size, CLASSES)
    width = DEPTHS[size].width
    assert detector.model.name == f"resnet_{size}" and detector.trunk.output.shape[-1] == 4 * width
    assert model_variables(detector.model)["regions/classes/dense/kernel"].shape == (8 * width, CLASSES + 1)


def test_a_detectors_checkpoint_in_use(detector, tmp_path):
    metadata = checkpoint.Metadata(head="boxes", image_size=96, anchors="16,32,64", long_side=128)
    prefix = checkpoint.save(tmp_path, 3, model_variables(detector.model), 1, metadata)
    network = inference.load_detector(tmp_path, NetworkConfig("NCHW"), proposals=20, expected={"class_num": CLASSES})
    assert network.prefix == prefix and network.description.class_num == CLASSES
    assert network.detector.config == DetectorConfig((16, 32, 64), proposals=20)
    batch = batch_of()
    expected = detector.detect(batch["image"], batch["size"])
    for name, x in network.detector.detect(batch["image"], batch["size"]).items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match="--class_num=20, but .* has class_num 3"):
        inference.load_detector(tmp_path, expected={"class_num": 20})
    with pytest.raises(CheckpointError, match="of a detector.*object_detection.py"):
        inference.load(tmp_path)
    features = inference.load(tmp_path, with_logits=False).model(batch["image"], training=False)["feature"]
    assert features.shape == (3, 128)
