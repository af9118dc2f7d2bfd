"""The probes on features whose classes are known."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from data_processing.sources.splits import split
from evaluation import probes


def clusters(classes=4, images=30, spread=0.4, seed=0):
    """Features around a direction for each class; the first number is large and says nothing."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, 12))
    labels = np.arange(classes).repeat(images)
    features = centres[labels] + spread * random.normal(size=(len(labels), 12))
    return features.astype(np.float32), labels


@pytest.mark.parametrize("probe", list(probes.PROBES))
def test_learns_what_can_be_learnt_and_nothing_else(probe):
    features, labels = clusters(spread=0.3)
    result = probes.evaluate(features, labels, probe, 10, seed=1)
    assert result["accuracy"] > 0.95 and result["class_mean"] > 0.95
    assert result["chosen"] in probes.PROBES[probe][0]
    assert result == probes.evaluate(features, labels, probe, 10, seed=1)
    # On features that tell nothing the answers are right by chance, a quarter: nothing leaks from the test images.
    random = np.random.default_rng(2)
    result = probes.evaluate(random.normal(size=features.shape), labels, probe, 10, seed=1)
    assert result["accuracy"] < 0.45


def test_is_near_another_linear_classifier():
    features, labels = clusters(spread=1.2, images=60)
    train, test = split(labels, 20, 0.2, seed=3)
    reference = RidgeClassifier().fit(features[train], labels[train]).score(features[test], labels[test])
    assert 0.6 < reference < 0.97
    for probe in ("logistic", "svm"):
        assert abs(probes.evaluate(features, labels, probe, 20, seed=3)["accuracy"] - reference) < 0.08


def test_what_scales_is_learnt_from_the_training_images_alone():
    """Other test images, far away, do not change what is answered for a test image."""
    features, labels = clusters()
    train, test = split(labels, 10, 0.2, seed=0)
    classifier = probes.PROBES["logistic"][1](0.01, 0)
    answers = probes._predict(features, labels, train, test[:5], classifier)
    features[test[5:]] *= 1000
    features[test[5:], 0] += 1000
    np.testing.assert_array_equal(probes._predict(features, labels, train, test, classifier)[:5], answers)


def test_classes_with_few_images():
    features, labels = clusters(images=3)
    for probe in probes.PROBES:
        assert 0 <= probes.evaluate(features, labels, probe, 1, seed=0)["accuracy"] <= 1
