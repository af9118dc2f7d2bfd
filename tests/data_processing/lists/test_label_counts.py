"""Counts of what occurs together, against loops over images."""

import numpy as np
import pytest

from data_processing.lists.label_counts import Counts, strong_pairs

ANCESTORS = [(), (0,), (), (), (2,)]  # ancestors: class 1 is a kind of 0, class 4 of 2
PREDICTED_AS = np.array([3, 0, 4, -1, 1])


def images(seed, count=200):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1.0, 0.0, 0.5, 1.0], (count, 5), p=[0.1, 0.5, 0.2, 0.2])
    return labels, rng.random((count, 5))


def naive(labels, probabilities, posterior, min_co, min_images):
    pairs = []
    for label in range(5):
        images = [k for k in range(len(labels)) if labels[k, label] > 0]
        for output in range(5):
            other = int(PREDICTED_AS[output])
            predicted = sum(1 for k in images if probabilities[k, output] > posterior)
            related = other in ANCESTORS[label] or label in ANCESTORS[other]
            if other in (-1, label) or related or len(images) < min_images:
                continue
            if predicted / len(images) > min_co:
                pairs.append((label, other, len(images), predicted))
    return sorted(pairs)


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_pairs(seed):
    labels, probabilities = images(seed)
    whole, first, second = (Counts(5, 5) for _ in range(3))
    for counts, part in ((whole, slice(None)), (first, slice(77)), (second, slice(77, None))):
        counts.add(labels[part], probabilities[part], 0.7)
    first.merge(second)
    np.testing.assert_array_equal(first.images, whole.images)
    np.testing.assert_array_equal(first.together.toarray(), whole.together.toarray())
    np.testing.assert_array_equal(whole.images, (labels > 0).sum(axis=0))
    pairs = strong_pairs(whole, PREDICTED_AS, ANCESTORS, 0.3, 10)
    assert sorted(pairs) == naive(labels, probabilities, 0.7, 0.3, 10)
    assert pairs
    shares = [predicted / images for _, _, images, predicted in pairs]
    assert shares == sorted(shares, reverse=True)


def test_bounds_are_strict():
    """A share of exactly one half, a posterior of exactly the threshold, and one image too few do not count."""
    counts = Counts(2, 2)
    counts.add(np.array([[1.0, 0.0]] * 4), np.array([[0.0, 0.96], [0, 0.96], [0, 0.95], [0, 0.1]]), 0.95)
    assert strong_pairs(counts, np.arange(2), [(), ()], 0.5, 4) == []
    assert strong_pairs(counts, np.arange(2), [(), ()], 0.49, 4) == [(0, 1, 4, 2)]
    assert strong_pairs(counts, np.arange(2), [(), ()], 0.49, 5) == []
