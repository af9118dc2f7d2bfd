"""Estimates before a run, against counts made in other ways."""

import numpy as np
import pytest
import tensorflow as tf

from models.faster_rcnn import DetectorConfig, build_detector, freeze
from models.resnet import NetworkConfig, build_resnet, train_only
from training import plan


def test_boundaries():
    assert plan.boundaries(lambda step: step // 4, 10) == [(0, 0), (4, 1), (8, 2)]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_ring(processes):
    """A ring in NumPy: in each hop everybody hands a part of its tensor to the next."""
    size = 60
    tensors = [np.random.default_rng(k).normal(size=size) for k in range(processes)]
    parts = [np.array_split(tensor.copy(), processes) for tensor in tensors]
    hops = sent = 0
    for spreading in (False, True):
        for hop in range(processes - 1):
            moved = [(k, (k - hop + spreading) % processes) for k in range(processes)]
            values = [parts[k][part].copy() for k, part in moved]
            for (k, part), value in zip(moved, values, strict=True):
                following = parts[(k + 1) % processes]
                following[part] = value if spreading else following[part] + value
            hops += 1
            sent += len(values[0])
    for mine in parts:
        np.testing.assert_allclose(np.concatenate(mine), np.sum(tensors, axis=0))
    assert plan.bytes_sent(size, processes) == sent
    assert plan.ring_seconds(size, processes, bandwidth=4, latency=10) == pytest.approx(sent / 4 + hops * 10)


def test_hierarchical_is_a_ring_where_one_level_is_alone():
    options = dict(bandwidth=3, latency=1, messages=2)
    inside = plan.hierarchical_seconds(100, 1, 8, bandwidths=(1, 3), latency=1, messages=2)
    across = plan.hierarchical_seconds(100, 8, 1, bandwidths=(3, 1), latency=1, messages=2)
    assert inside == across == plan.ring_seconds(100, 8, **options)


def test_only_what_is_longer_than_the_backward_pass_shows():
    assert plan.step_seconds(3, 1.9) == 3 and plan.step_seconds(3, 2.5) == 3.5


def test_multiplications_against_tensorflow_profiler():
    model = build_resnet(18, 7)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec([1, 64, 64, 3])).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().with_node_names(show_name_regexes=[".*(convolution|MatMul).*"]).build()
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    assert counted == pytest.approx(2 * plan.multiply_adds(model, 64), rel=0.01)


def test_memory():
    model = build_resnet(18, 7)
    trainable = sum(v.shape.num_elements() for v in model.trainable_variables)
    moving = sum(v.shape.num_elements() for v in model.non_trainable_variables)
    small, large = (plan.memory(model, batch, 64) for batch in (2, 6))
    assert small["state"] == large["state"] == 4 * (3 * trainable + moving)
    assert large["activations"] == pytest.approx(3 * small["activations"])
    half = plan.memory(build_resnet(18, 7, NetworkConfig(precision="bfloat16")), 2, 64)["activations"]
    assert small["activations"] / 2 < half < small["activations"]


def test_memory_of_what_is_frozen_is_not_kept():
    model = build_resnet(10, 7)
    whole = plan.memory(model, 2, 64)
    train_only(model, ("logits",))
    frozen = plan.memory(model, 2, 64)
    assert frozen["activations"] == 0 and frozen["state"] < whole["state"]


def test_multiplications_of_a_detector_are_those_of_the_reference(monkeypatch):
    """By hand: a 7 x 7 crop through ResNet-101's last stage; and the backbone, whose figure the issue gives."""
    monkeypatch.setattr("keras.initializers.VarianceScaling.__call__", lambda self, shape, dtype=None: tf.zeros(shape))
    counted = plan.detector_multiply_adds(build_detector(101, 20), (600, 1000))
    first = 1024 * 2048 + 1024 * 512 + 9 * 512 * 512 + 512 * 2048
    others = 2048 * 512 + 9 * 512 * 512 + 512 * 2048
    assert counted["region"] == 49 * (first + 2 * others) + 2048 * (21 + 4 * 20)
    assert counted["rpn"] == 38 * 63 * (9 * 1024 * 512 + 512 * (9 + 36))
    assert counted["trunk"] == pytest.approx(85e9, rel=0.01)


def test_memory_of_a_detector():
    detector = build_detector(10, 5, config=DetectorConfig((16, 32), regions=8, proposals=20))
    small, large = (plan.detector_memory(detector, batch, (64, 96)) for batch in (1, 3))
    assert large["activations"] == pytest.approx(3 * small["activations"], rel=1e-6)
    assert small["test"] == large["test"] > 4 * sum(v.shape.num_elements() for v in detector.model.variables)
    freeze(detector)
    frozen = plan.detector_memory(detector, 1, (64, 96))
    assert 0 < frozen["activations"] < small["activations"] and frozen["state"] < small["state"]


def test_classes_that_are_present_in_nearly_every_batch():
    """Against batches that are drawn, of classes that are well above or below the limit."""
    rng = np.random.default_rng(0)
    frequencies = np.array([1.0, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0])
    for batch in (4, 32, 1000):
        there = (rng.random((400, batch, len(frequencies))) < frequencies).any(axis=1)
        drawn = np.mean(there.mean(axis=0) > plan.OFTEN)
        assert plan.present_share(frequencies, batch) == drawn
