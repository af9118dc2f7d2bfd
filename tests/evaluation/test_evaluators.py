"""Metrics of images against scikit-learn, and `evaluate` over batches."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)

from evaluation import evaluate as evaluation
from evaluation import multi_label
from evaluation.multi_label import MultiLabelConfig, MultiLabelEvaluator
from evaluation.single_label import SingleLabelEvaluator


def make_batches(logits, labels, valid=None, batch=7):
    """Batches as `evaluation_batches` gives them; an image's only pixel is its number."""
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


def evaluate(logits, labels, valid=None, max_skipped=0.01, **options):
    """Returns the `Evaluation` and the evaluator; `labels` of one axis are single labels."""
    class_num = logits.shape[1]
    if labels.ndim == 1:
        evaluator = SingleLabelEvaluator(class_num)
    else:
        evaluator = MultiLabelEvaluator(class_num, MultiLabelConfig(**options))
    predictions = evaluation.predictions(
        lambda batch: {"logits": logits[batch["image"][:, 0, 0, 0].astype(int)]}, make_batches(logits, labels, valid)
    )
    return evaluation.evaluate(evaluator, predictions, max_skipped), evaluator


def metrics_of(*args, **options):
    return evaluate(*args, **options)[0].metrics


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
    (metrics, skipped), evaluator = evaluate(logits, labels, top_k_pred=3, threshold=0.4, positive_thres=positive_thres)
    classes, positive = evaluator.classes, labels > positive_thres
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
    whole = metrics_of(*data, ap_mode=ap_mode)
    monkeypatch.setattr(multi_label, "SLICE", 3)
    assert metrics_of(*data, ap_mode=ap_mode) == pytest.approx(whole, abs=1e-12)


def test_unknown_labels_take_no_part(data):
    logits, labels = data
    labels = labels.copy()
    labels[:, 8] = -1
    labels[:, 7] = -1
    labels[0] = -1
    (with_unknown, _), evaluator = evaluate(logits, labels, top_k_pred=2)
    without = metrics_of(logits[1:, :7], labels[1:, :7], top_k_pred=2)
    assert np.isnan(evaluator.classes.ap[7:]).all() and not evaluator.classes.known[7:].any()
    assert with_unknown.pop("images") == without.pop("images") + 1
    assert with_unknown == pytest.approx(without)


def test_binned_says_by_how_much_it_may_be_wrong(data):
    exact, binned = (metrics_of(*data, ap_mode=mode) for mode in ("exact", "binned"))
    for name in ("macro_map", "micro_ap"):
        assert binned[name] == pytest.approx(exact[name], abs=binned[f"{name}_error"] + 1e-12)
        assert binned[f"{name}_error"] < 0.05


def test_top_k_of_fewer_classes_takes_all(data):
    logits, labels = data
    metrics = metrics_of(logits[:, :4], labels[:, :4], top_k_pred=5)
    assert metrics["recall_top_k"] == 1


def test_no_positive_at_all_is_not_a_number():
    metrics = metrics_of(np.zeros([4, 3], np.float32), np.zeros([4, 3], np.float32))
    undefined = {name for name, value in metrics.items() if np.isnan(value)}
    assert {"macro_map", "micro_ap", "macro_auc", "chance_map", "precision_top_k", "f1_threshold"} <= undefined


def test_highest_takes_the_first_of_equal_scores():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 4, [50, 8]).astype(np.float32)
    for k in (1, 3, 8):
        chosen = multi_label.highest(scores, k)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        for row, columns in zip(chosen, order, strict=True):
            assert sorted(columns) == list(np.flatnonzero(row))


def test_single_label_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 12, 90)
    logits = (rng.normal(size=[90, 12]) + 1.5 * np.eye(12)[labels]).astype(np.float32)
    (metrics, _), evaluator = evaluate(logits, labels)
    np.testing.assert_array_equal(evaluator.answers.labels, labels)
    np.testing.assert_array_equal(evaluator.answers.answers, np.argsort(-logits, axis=1)[:, :5])
    assert metrics["images"] == 90
    assert metrics["top_1"] == pytest.approx(top_k_accuracy_score(labels, logits, k=1))
    assert metrics["top_5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))


def test_constant_logits_are_no_better_than_one_class():
    labels = np.arange(10)
    metrics = metrics_of(np.zeros([10, 10], np.float32), labels)
    assert metrics["top_1"] == 0.1 and metrics["top_5"] == 0.5


def test_single_label_outside_the_network_is_an_error():
    with pytest.raises(ValueError, match="label 3, the network has 3 classes"):
        evaluate(np.zeros([2, 3], np.float32), np.array([0, 3]))


def test_corrupt_records_are_left_out_up_to_a_limit(data):
    logits, labels = data
    valid = np.ones(60, bool)
    valid[[5, 40]] = False
    result, _ = evaluate(logits, labels, valid, max_skipped=2 / 60)
    assert result.skipped == ["5.jpg", "40.jpg"]
    assert result.metrics == pytest.approx(metrics_of(logits[valid], labels[valid]))
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
    assert metrics_of(logits, data[1], valid, max_skipped=0.1)["images"] == 59


@pytest.mark.parametrize(("option", "value"), [("ap_mode", "sorted"), ("threshold", 0.0), ("threshold", 1.0)])
def test_options_out_of_range(data, option, value):
    with pytest.raises(ValueError, match=option):
        evaluate(*data, **{option: value})


def test_softmax_ranks_and_decides_by_its_probabilities(data):
    logits, labels = data
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum(axis=1, keepdims=True)
    as_sigmoid = np.log(shares / (1 - shares)).astype(np.float32)
    expected = metrics_of(as_sigmoid, labels, threshold=0.3)
    assert metrics_of(logits, labels, threshold=0.3, head="softmax") == pytest.approx(expected, abs=1e-5)
    assert metrics_of(logits, labels, threshold=0.3, head="sigmoid") == metrics_of(logits, labels, threshold=0.3)
    # One class may have it all.
    extreme = multi_label._log_odds(np.array([[200, -200, 0]], np.float32))
    assert np.isfinite(extreme).all() and extreme[0, 0] > extreme[0, 2] > extreme[0, 1]


def test_what_evaluators_say_of_themselves(data):
    """The shown metrics exist, and the settings and the disk space are those of the mode."""
    for labels, shown in (
        (data[1], ("macro_map", "micro_ap", "macro_auc", "f1_top_k")),
        (data[1].argmax(1), ("top_1", "top_5", "class_mean")),
    ):
        result, evaluator = evaluate(data[0], labels)
        assert evaluator.shown == shown and set(shown) <= set(result.metrics)
    assert evaluator.settings() == {} and evaluator.disk_space(100) == 0
    exact, binned = (MultiLabelEvaluator(3, MultiLabelConfig(ap_mode=mode)) for mode in ("exact", "binned"))
    assert exact.settings() == {"ap_mode": "exact", "threshold": 0.5, "positive_thres": 0.0, "top_k": 3}
    assert (exact.disk_space(800), binned.disk_space(800)) == (800 * 3 * 4.125, 0)
