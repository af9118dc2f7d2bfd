"""The loss of Faster R-CNN against its formula in NumPy, image by image."""

import numpy as np
import pytest
import tensorflow as tf

from losses.detection import DetectionLoss, smooth_l1

CLASSES, ANCHORS, REGIONS = 3, 30, 12


def outputs_of(images, seed=0):
    """Random outputs of a detector; the last image is blank, with nothing sampled and nothing finite."""
    random = np.random.default_rng(seed)
    outputs = {
        "rpn_logits": random.normal(0, 3, [images, ANCHORS]),
        "rpn_labels": random.integers(-1, 2, [images, ANCHORS]),
        "rpn_offsets": random.normal(0, 1, [images, ANCHORS, 4]),
        "rpn_targets": random.normal(0, 1, [images, ANCHORS, 4]),
        "region_logits": random.normal(0, 3, [images, REGIONS, CLASSES + 1]),
        "region_labels": random.integers(-1, CLASSES + 1, [images, REGIONS]),
        "region_offsets": random.normal(0, 2, [images, REGIONS, 4]),
        "region_targets": random.normal(0, 2, [images, REGIONS, 4]),
    }
    outputs["rpn_labels"][-1] = outputs["region_labels"][-1] = -1
    outputs["rpn_targets"][-1] = outputs["region_targets"][-1] = np.inf
    types = {"rpn_labels": np.int32, "region_labels": np.int32}
    return {name: value.astype(types.get(name, np.float32)) for name, value in outputs.items()}


def smooth(error, sigma):
    error = abs(error)
    return (sigma * error) ** 2 / 2 if error < 1 / sigma**2 else error - 0.5 / sigma**2


def by_hand(outputs):
    """The four terms in loops."""
    terms = {"rpn_class": [], "rpn_box": [], "region_class": [], "region_box": []}
    for k in range(len(outputs["rpn_labels"])):
        sums = dict.fromkeys(terms, 0.0)
        anchors, regions = outputs["rpn_labels"][k], outputs["region_labels"][k]
        for a in np.flatnonzero(anchors >= 0):
            p = 1 / (1 + np.exp(-float(outputs["rpn_logits"][k, a])))
            sums["rpn_class"] -= np.log(p if anchors[a] else 1 - p)
            errors = outputs["rpn_offsets"][k, a] - outputs["rpn_targets"][k, a]
            sums["rpn_box"] += anchors[a] * sum(smooth(error, 3) for error in errors)
        for r in np.flatnonzero(regions >= 0):
            logits = outputs["region_logits"][k, r].astype(np.float64)
            sums["region_class"] -= logits[regions[r]] - np.log(np.exp(logits).sum())
            errors = outputs["region_offsets"][k, r] - outputs["region_targets"][k, r]
            sums["region_box"] += (regions[r] < CLASSES) * sum(smooth(error, 1) for error in errors)
        for name, value in sums.items():
            terms[name].append(value / max(1, ((anchors if "rpn" in name else regions) >= 0).sum()))
    return {name: np.mean(values) for name, values in terms.items()}


def test_terms_against_loops():
    outputs = outputs_of(5)
    terms = DetectionLoss()({}, outputs, None)
    expected = by_hand(outputs)
    assert terms.keys() == expected.keys() == set(DetectionLoss.terms)
    for name, value in terms.items():
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(expected[name], rel=1e-5), name


def test_the_mean_of_two_halves_is_the_whole():
    outputs = outputs_of(6)
    halves = [
        DetectionLoss()({}, {name: x[half] for name, x in outputs.items()}, None) for half in (slice(3), slice(3, 6))
    ]
    for name, value in DetectionLoss()({}, outputs, None).items():
        assert float(value) == pytest.approx((float(halves[0][name]) + float(halves[1][name])) / 2, rel=1e-5)


def test_nothing_flows_from_what_was_not_sampled():
    outputs = {name: tf.constant(x) for name, x in outputs_of(2).items()}
    names = ["rpn_logits", "rpn_offsets", "region_logits", "region_offsets"]
    with tf.GradientTape() as tape:
        tape.watch([outputs[name] for name in names])
        value = tf.add_n(list(DetectionLoss()({}, outputs, None).values()))
    for name, gradient in zip(names, tape.gradient(value, [outputs[name] for name in names]), strict=True):
        labels = outputs[f"{name.split('_')[0]}_labels"].numpy()
        assert np.isfinite(gradient).all() and not gradient.numpy()[labels < 0].any(), name
        assert gradient.numpy().any()


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_smooth_l1_has_no_step_and_no_kink_where_it_turns(sigma):
    turn = 1 / sigma**2
    errors = tf.constant([[turn * 0.9999], [turn * 1.0001], [0.0], [-5.0]])
    with tf.GradientTape() as tape:
        tape.watch(errors)
        values = smooth_l1(errors, sigma)
    slopes = tape.gradient(values, errors).numpy()[:, 0]
    np.testing.assert_allclose(values, [smooth(float(e), sigma) for e in errors[:, 0]], rtol=1e-5)
    np.testing.assert_allclose(slopes, [1, 1, 0, -1], atol=1e-3)
