"""Curves over thresholds and calibration against scikit-learn, and what of them is stored and drawn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, f1_score, precision_recall_curve

from evaluation import curves
from evaluation.curves import ThresholdCounts
from evaluation.multi_label import MultiLabelConfig, MultiLabelEvaluator

# Class 2 has no positive, class 5 no known label; scores of class 4 are below the lowest bin, those of 1 rare.
CLASSES = 6


@pytest.fixture(scope="module")
def data():
    """Logits, positives and known labels of 3,000 images."""
    rng = np.random.default_rng(0)
    known = rng.random([3000, CLASSES]) > 0.1
    known[:, 5] = False
    positive = (rng.random([3000, CLASSES]) < [0.3, 0.01, 0, 0.1, 0.2, 0.2]) & known
    logits = rng.normal(-2, 1.5, [3000, CLASSES]) + 2 * positive
    logits[:, 4] -= 25
    return logits.astype(np.float32), positive, known


@pytest.fixture(scope="module")
def found(data):
    counts = ThresholdCounts(CLASSES)
    for begin in range(0, 3000, 700):
        counts.add(*(x[begin : begin + 700] for x in data))
    return counts.finish()


@pytest.mark.parametrize("place", [0.0, 0.05, 0.3, 0.5, 0.731, 0.99])
def test_figures_at_a_threshold_are_exact(data, found, place):
    """Of a class, too, and the mean over those with positives."""
    logits, positive, known = data
    probability = curves.sigmoid(logits)
    k = np.searchsorted(found.micro.threshold, place)
    predicted = probability >= found.micro.threshold[k]
    assert found.micro.f1[k] == pytest.approx(f1_score(positive[known], predicted[known]), abs=1e-12)
    k = np.searchsorted(found.class_thresholds, place)
    predicted = (probability >= found.class_thresholds[k]) & known
    by_class = f1_score(positive[:, [0, 1, 3, 4]], predicted[:, [0, 1, 3, 4]], average="macro", zero_division=0)
    assert found.macro_f1[k] == pytest.approx(by_class, abs=1e-12)


def test_the_micro_curve_is_that_of_scikit_learn(data, found):
    logits, positive, known = data
    precision, recall, thresholds = precision_recall_curve(positive[known], curves.sigmoid(logits)[known])
    at = np.searchsorted(thresholds, found.micro.threshold)
    np.testing.assert_allclose(found.micro.recall, recall[at], atol=1e-12)
    np.testing.assert_allclose(found.micro.precision, precision[at], atol=1e-12)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    threshold, best = curves.best(found.micro.threshold, found.micro.f1)
    assert best == pytest.approx(f1.max(), abs=1e-3) and best <= f1.max() + 1e-12
    predicted = (curves.sigmoid(logits) >= threshold)[known]
    assert best == pytest.approx(f1_score(positive[known], predicted), abs=1e-12)


def test_curves_of_classes(data, found):
    """Precision where a recall is first reached, whose mean over recall is nearly AP; and each class's best F1."""
    logits, positive, known = data
    assert len(found.precisions) == 4
    for row, k in zip(found.precisions, (0, 1, 3, 4), strict=True):
        of = known[:, k]
        precision, recall, _ = precision_recall_curve(positive[of, k], curves.sigmoid(logits[of, k].astype(np.float64)))
        if k != 4:
            reached = [precision[np.flatnonzero(recall >= r - 1e-12)[-1]] for r in curves.RECALLS]
            np.testing.assert_allclose(row, reached, atol=0.06)
            assert np.mean(row) == pytest.approx(np.mean(reached), abs=0.005)
            best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
            assert found.class_f1[k] == pytest.approx(best, abs=0.01) and best >= found.class_f1[k] - 1e-12
    # Below the lowest bin all scores are one: all or nothing is predicted.
    share = positive[:, 4].sum() / known[:, 4].sum()
    np.testing.assert_allclose(found.precisions[3], share)
    assert found.class_f1[4] == pytest.approx(2 * share / (1 + share)) and found.class_threshold[4] < 1e-6
    assert np.isnan(found.class_f1[[2, 5]]).all() and np.isnan(found.class_threshold[[2, 5]]).all()


def test_calibration_is_that_of_scikit_learn(data, found):
    logits, positive, known = data
    probability = curves.sigmoid(logits)[known]
    share, confidence = calibration_curve(positive[known], probability, n_bins=curves.CALIBRATION_BINS)
    there = found.calibration.count > 0
    np.testing.assert_allclose(found.calibration.share[there], share, atol=6e-3)
    np.testing.assert_allclose(found.calibration.confidence[there], confidence, atol=2e-3)
    assert found.calibration.count.sum() == known.sum()
    count = np.histogram(probability, curves.CALIBRATION_BINS, (0, 1))[0]
    expected = np.sum(count[there] * np.abs(share - confidence)) / count.sum()
    assert found.calibration.error == pytest.approx(expected, abs=3e-4)


def test_between_scores_the_middle_is_best():
    counts = ThresholdCounts(1)
    logits = np.array([[3], [3], [-1], [-1]], np.float32)
    counts.add(logits, logits > 0, np.ones_like(logits, bool))
    found = counts.finish()
    assert curves.best(found.micro.threshold, found.micro.f1) == pytest.approx((curves.sigmoid(1.0), 1.0), abs=1e-3)


def test_risk_and_coverage():
    risk, area = curves.risk_coverage(np.array([0.2, 0.9, 0.5, 0.7]), np.array([True, True, False, True]))
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 4])
    assert area == pytest.approx(7 / 48)
    assert auc([0.25, 0.5, 0.75, 1], risk) < area


@pytest.mark.parametrize("ap_mode", ["exact", "binned"])
def test_metrics_and_files_of_both_modes(data, tmp_path, ap_mode):
    logits, positive, known = data
    names = [("", 'a "<b>" & c'), *(("n1", f"thing {k}") for k in range(1, CLASSES))]
    evaluator = MultiLabelEvaluator(CLASSES, MultiLabelConfig(ap_mode=ap_mode), tmp_path, names)
    evaluator.add({"label": np.where(known, positive.astype(np.float32), -1)}, {"logits": logits})
    metrics = evaluator.result()
    predicted = (curves.sigmoid(logits) >= metrics["best_threshold"])[known]
    assert metrics["best_f1"] == pytest.approx(f1_score(positive[known], predicted), abs=1e-12)
    precision, recall, _ = precision_recall_curve(positive[known], logits[known])
    exact = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert metrics["best_f1"] == pytest.approx(exact, abs=1e-12 if ap_mode == "exact" else 1e-3)
    ratio = 2 / (1 / metrics["best_precision"] + 1 / metrics["best_recall"])
    assert metrics["best_f1"] == pytest.approx(ratio) and metrics["best_f1"] >= metrics["overall_f1_threshold"]
    assert metrics["best_macro_f1"] == pytest.approx(evaluator.curves.macro_f1.max())
    assert f"best p >= {metrics['best_threshold']:.3g}, overall" in evaluator.table()
    evaluator.write_report(tmp_path, "of <this> & that")
    pngs = {path.stem: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert set(pngs) == {"precision_recall", "f1_by_threshold", "calibration", "ap_vs_frequency"}
    assert all(png.startswith(b"\x89PNG") and len(png) > 10_000 for png in pngs.values())
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and 'src="http' not in page
    assert "a &quot;&lt;b&gt;&quot; &amp; c" in page and "<b>" not in page and "of &lt;this&gt; &amp; that" in page
    assert page.count("<tr><td>thing 3<td class=n>3<td>n1") == 2  # among the extremes, and among all
    assert "class=sortable" in page and "mAP (macro)" in page


def test_without_a_positive_there_is_a_report(tmp_path):
    evaluator = MultiLabelEvaluator(2, scratch_dir=tmp_path)
    evaluator.add({"label": np.zeros([3, 2])}, {"logits": np.zeros([3, 2], np.float32)})
    metrics = evaluator.result()
    assert np.isnan([metrics["best_threshold"], metrics["best_f1"], metrics["best_macro_f1"]]).all()
    assert metrics["calibration_error"] == pytest.approx(0.5, abs=1e-3)
    evaluator.write_report(tmp_path, "nothing")
    assert "All classes" in (tmp_path / "report.html").read_text()
