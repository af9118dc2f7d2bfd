"""The report by class, against scikit-learn and by what its page holds."""

import csv
import re

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from evaluation import confusion, outputs, single_label_report
from evaluation.single_label import SingleLabelEvaluator

NAMES = ["dog, hound", "cat", "a <b> & c", "owl", "never seen", "pig", "cow"]


@pytest.fixture(scope="module")
def evaluated():
    random = np.random.default_rng(0)
    labels = random.choice([0, 1, 2, 3, 5, 6], 400)
    logits = random.normal(size=(400, len(NAMES))).astype(np.float32)
    logits[np.arange(400), labels] += 1
    logits[labels == 3, 1] += 3  # owls are taken for cats
    evaluator = SingleLabelEvaluator(len(NAMES), names=[("", name) for name in NAMES])
    evaluator.add({"label": labels[:150]}, {"logits": logits[:150]})
    evaluator.add({"label": labels[150:]}, {"logits": logits[150:]})
    return labels, logits, evaluator.result(), evaluator


def test_rows_are_those_of_scikit_learn(evaluated, tmp_path):
    labels, logits, metrics, evaluator = evaluated
    answers = evaluator.answers
    predicted = logits.argmax(axis=1)
    classes = np.arange(len(NAMES))
    matrix = sklearn_metrics.confusion_matrix(labels, predicted, labels=classes)
    np.testing.assert_array_equal(confusion.count(labels, predicted, len(NAMES)), matrix)
    recalls = sklearn_metrics.recall_score(labels, predicted, labels=classes, average=None, zero_division=np.nan)
    precisions = sklearn_metrics.precision_score(labels, predicted, labels=classes, average=None, zero_division=np.nan)
    rows = single_label_report.class_rows(answers, NAMES)
    for k, (index, name, images, accuracy, precision, five, taken_for) in enumerate(rows):
        assert (index, name, images) == (k, NAMES[k], (labels == k).sum())
        np.testing.assert_allclose([accuracy, precision], [recalls[k], precisions[k]])
        if images:
            top = sklearn_metrics.top_k_accuracy_score(labels[labels == k], logits[labels == k], k=5, labels=classes)
            assert five == pytest.approx(top)
            wrong = np.where(classes == k, -1, matrix[k])
            assert taken_for == NAMES[wrong.argmax()]
    assert rows[3][-1] == "cat" and rows[4][2] == 0 and np.isnan(rows[4][3])
    assert metrics["class_mean"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(labels, predicted))
    outputs.write_table(tmp_path / "rows.tsv", single_label_report.COLUMNS, rows)
    with open(tmp_path / "rows.tsv", newline="") as file:
        read = list(csv.DictReader(file, delimiter="\t"))
    assert list(read[0]) == list(single_label_report.COLUMNS) and read[4]["accuracy"] == ""
    assert float(read[3]["accuracy"]) == pytest.approx(recalls[3], abs=1e-6)


def test_page_needs_no_other_file_and_believes_no_name(evaluated, tmp_path):
    _, _, metrics, evaluator = evaluated
    single_label_report.write_page(tmp_path / "page.html", evaluator, "of <this> & that")
    page = (tmp_path / "page.html").read_text()
    assert "a &lt;b&gt; &amp; c" in page and "<b>" not in page and "of &lt;this&gt; &amp; that" in page
    assert page.count("data:image/png;base64,") == 3 and not re.search(r"(src|href)=.?(http|/)", page)
    confused = page[page.index("Most often confused") :]
    assert confused.index("owl") < confused.index("dog")  # the pair that is confused most comes first
    assert f"top-1 {metrics['top_1']:.4f}" in page


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_calibration_is_that_of_the_first_answer(evaluated, head):
    labels, logits, *_ = evaluated
    evaluator = SingleLabelEvaluator(len(NAMES), head)
    evaluator.add({"label": labels}, {"logits": logits})
    metrics = evaluator.result()
    probabilities = 1 / (1 + np.exp(-logits)) if head == "sigmoid" else softmax(logits, axis=1)
    np.testing.assert_allclose(evaluator.answers.confidence, probabilities.max(axis=1), rtol=1e-5)
    right = logits.argmax(axis=1) == labels
    share, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=15)
    found = evaluator.calibration()
    np.testing.assert_allclose(found.share[found.count > 0], share, rtol=1e-6)
    np.testing.assert_allclose(found.confidence[found.count > 0], confidence, rtol=1e-5)
    expected = np.average(np.abs(share - confidence), weights=found.count[found.count > 0])
    assert metrics["calibration_error"] == pytest.approx(expected, rel=1e-5) and "calibration" in evaluator.table()
