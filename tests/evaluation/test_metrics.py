"""Measures of images against scikit-learn, and `evaluate` over batches."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)

from evaluation import metrics


def make_batches(logits, labels, valid=None, batch=7):
    """Batches as `dataset.evaluation_batches` gives them; an image's only pixel is its number."""
    count = len(logits)
    valid = np.ones(count, bool) if valid is None else valid
    for begin in range(0, count, batch):
        part = slice(begin, begin + batch)
        yield {
            "image": np.arange(count, dtype=np.float32)[part, None, None, None],
            "label": labels[part],
            "name": np.array([b"%d.jpg" % i for i in range(count)], object)[part],
            "valid": valid[part],
        }


def evaluate(logits, labels, valid=None, **options):
    batches = metrics.predictions(
        lambda images: logits[images[:, 0, 0, 0].astype(int)], make_batches(logits, labels, valid)
    )
    return metrics.evaluate(batches, logits.shape[1], **options)


@pytest.fixture(scope="module")
def data():
    """Logits with ties and confidences of 60 images and 9 classes; class 4 has no positive, 3 images neither."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random([60, 9]) < 0.3, rng.choice([0.3, 0.8, 1.0], [60, 9]), 0).astype(np.float32)
    labels[:, 4] = 0
    labels[10:13] = 0
    logits = np.round(rng.normal(-1, 2, [60, 9]) + 2 * labels, 1).astype(np.float32)
    return logits, labels


def check_images(metrics, suffix, positive, predicted):
    labelled = positive.any(axis=1)
    samples = precision_recall_fscore_support(
        positive[labelled], predicted[labelled], average="samples", zero_division=0
    )
    overall = precision_recall_fscore_support(positive, predicted, average="micro", zero_division=0)
    for k, name in enumerate(("precision", "recall", "f1")):
        assert metrics[f"{name}_{suffix}"] == pytest.approx(samples[k], abs=1e-12)
        assert metrics[f"overall_{name}_{suffix}"] == pytest.approx(overall[k], abs=1e-12)


@pytest.mark.parametrize("positive_thres", [0.0, 0.7])
def test_multi_label_agrees_with_scikit_learn(data, positive_thres):
    logits, labels = data
    metrics, classes, skipped = evaluate(logits, labels, top_k=3, threshold=0.4, positive_thres=positive_thres)
    positive = labels > positive_thres
    present = positive.any(axis=0)
    assert skipped == [] and metrics["images"] == 60 and metrics["classes_with_positives"] == 8
    assert np.isnan(classes.ap[4])
    assert metrics["macro_map"] == pytest.approx(average_precision_score(positive[:, present], logits[:, present]))
    assert metrics["macro_auc"] == pytest.approx(roc_auc_score(positive[:, present], logits[:, present]))
    assert metrics["micro_ap"] == pytest.approx(average_precision_score(positive.ravel(), logits.ravel()), abs=1e-9)
    assert metrics["micro_auc"] == pytest.approx(roc_auc_score(positive.ravel(), logits.ravel()), abs=1e-9)
    check_images(metrics, "threshold", positive, 1 / (1 + np.exp(-logits.astype(np.float64))) >= 0.4)
    order = np.argsort(-logits, axis=1, kind="stable")
    predicted = np.zeros_like(positive)
    np.put_along_axis(predicted, order[:, :3], True, axis=1)
    check_images(metrics, "top_k", positive, predicted)


@pytest.mark.parametrize("ap_mode", ["exact", "binned"])
def test_slices_of_a_batch_make_no_difference(monkeypatch, data, ap_mode):
    whole = evaluate(*data, ap_mode=ap_mode)
    monkeypatch.setattr(metrics, "SLICE", 3)
    assert evaluate(*data, ap_mode=ap_mode).metrics == pytest.approx(whole.metrics, abs=1e-12)


def test_unknown_labels_take_no_part(data):
    logits, labels = data
    labels = labels.copy()
    labels[:, 8] = -1
    labels[:, 7] = -1
    labels[0] = -1
    with_unknown = evaluate(logits, labels, top_k=2)
    without = evaluate(logits[1:, :7], labels[1:, :7], top_k=2)
    assert np.isnan(with_unknown.classes.ap[7:]).all() and not with_unknown.classes.known[7:].any()
    assert with_unknown.metrics.pop("images") == without.metrics.pop("images") + 1
    assert with_unknown.metrics == pytest.approx(without.metrics)


def test_binned_says_by_how_much_it_may_be_wrong(data):
    exact, binned = (evaluate(*data, ap_mode=mode).metrics for mode in ("exact", "binned"))
    for name in ("macro_map", "micro_ap"):
        assert binned[name] == pytest.approx(exact[name], abs=binned[f"{name}_error"] + 1e-12)
        assert binned[f"{name}_error"] < 0.05


def test_top_k_of_fewer_classes_takes_all(data):
    logits, labels = data
    metrics = evaluate(logits[:, :4], labels[:, :4], top_k=5).metrics
    assert metrics["recall_top_k"] == 1


def test_no_positive_at_all_is_not_a_number():
    metrics = evaluate(np.zeros([4, 3], np.float32), np.zeros([4, 3], np.float32)).metrics
    undefined = {name for name, value in metrics.items() if np.isnan(value)}
    assert {"macro_map", "micro_ap", "macro_auc", "chance_map", "precision_top_k", "f1_threshold"} <= undefined


@pytest.mark.parametrize(("known", "positives"), [(1, 1), (5, 1), (6, 3), (7, 7)])
def test_chance_is_the_mean_over_all_orders(known, positives):
    values = []
    for chosen in itertools.combinations(range(known), positives):
        positive = np.isin(np.arange(known), chosen)
        values.append(average_precision_score(positive, np.arange(known)))
    assert metrics.chance_average_precision(positives, known) == pytest.approx(np.mean(values), abs=1e-12)


def test_chance_is_continuous_where_the_sum_ends():
    n = np.array([998, 999, 1000, 1001])
    np.testing.assert_allclose(metrics._harmonic(n), [np.sum(1 / np.arange(1, m + 1)) for m in n], rtol=1e-14)


def test_highest_takes_the_first_of_equal_scores():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 4, [50, 8]).astype(np.float32)
    for k in (1, 3, 8):
        chosen = metrics.highest(scores, k)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        for row, columns in zip(chosen, order, strict=True):
            assert sorted(columns) == list(np.flatnonzero(row))


def test_single_label_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 12, 90)
    logits = (rng.normal(size=[90, 12]) + 1.5 * np.eye(12)[labels]).astype(np.float32)
    metrics, classes, _ = evaluate(logits, labels)
    np.testing.assert_array_equal(classes.labels, labels)
    np.testing.assert_array_equal(classes.answers, np.argsort(-logits, axis=1)[:, :5])
    assert metrics["images"] == 90
    assert metrics["top_1"] == pytest.approx(top_k_accuracy_score(labels, logits, k=1))
    assert metrics["top_5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))


def test_constant_logits_are_no_better_than_one_class():
    labels = np.arange(10)
    metrics = evaluate(np.zeros([10, 10], np.float32), labels).metrics
    assert metrics["top_1"] == 0.1 and metrics["top_5"] == 0.5


def test_single_label_outside_the_network_is_an_error():
    with pytest.raises(ValueError, match="label 3, the network has 3 classes"):
        evaluate(np.zeros([2, 3], np.float32), np.array([0, 3]))


def test_corrupt_records_are_left_out_up_to_a_limit(data):
    logits, labels = data
    valid = np.ones(60, bool)
    valid[[5, 40]] = False
    result = evaluate(logits, labels, valid, max_skipped=2 / 60)
    assert result.skipped == ["5.jpg", "40.jpg"]
    assert result.metrics == pytest.approx(evaluate(logits[valid], labels[valid]).metrics)
    with pytest.raises(ValueError, match=r"2 of 60 records are corrupt, .*5.jpg, 40.jpg"):
        evaluate(logits, labels, valid, max_skipped=0.01)
    with pytest.raises(ValueError, match="no image"):
        evaluate(logits, labels, np.zeros(60, bool), max_skipped=1.0)
    with pytest.raises(ValueError, match="no image"):
        evaluate(logits[:0], labels[:0])


def test_logits_that_are_not_finite_name_the_image(data):
    logits = data[0].copy()
    logits[31, 2] = np.nan
    with pytest.raises(ValueError, match="31.jpg: its logits are not finite"):
        evaluate(logits, data[1])
    valid = np.arange(60) != 31
    assert evaluate(logits, data[1], valid, max_skipped=0.1).metrics["images"] == 59


@pytest.mark.parametrize(("option", "value"), [("ap_mode", "sorted"), ("threshold", 0.0), ("threshold", 1.0)])
def test_options_out_of_range(data, option, value):
    with pytest.raises(ValueError, match=option):
        evaluate(*data, **{option: value})
