"""Precision, recall and F1 by threshold, and calibration, of thousands of classes, in bounded memory.

All follow from histograms of log-odds (the logits of sigmoids): for a class in bins of 1/32, 8 KB a class (91 MB at
11,166), for all (image, class) pairs in bins of 1/1024, from -16 to 16; what lies beyond is in the outermost bins. So
the figures at a threshold are exact, and the thresholds a grid: of a probability 0.00025 apart at most for all pairs,
0.008 for a class.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

# Log-odds of the first bin's lower edge; bins in a unit of log-odds. Powers of two, so that no score is rounded.
LOWEST = -16
CLASS_STEPS, MICRO_STEPS = 32, 1024
CLASS_BINS, MICRO_BINS = (steps * 2 * -LOWEST for steps in (CLASS_STEPS, MICRO_STEPS))
RECALLS = np.linspace(0.01, 1, 100)
# Of the expected calibration error, as in Guo et al. 2017 (On calibration of modern neural networks), section 5.
CALIBRATION_BINS = 15


class AtThresholds(NamedTuple):
    """What a rule "predicted from the threshold on" gives, each [thresholds]: probabilities, rising, and figures."""

    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class Calibration(NamedTuple):
    """Probabilities against what came true, in CALIBRATION_BINS bins of equal width, each [bins], NaN in empty bins.

    Attributes:
      confidence: mean probability.
      share: share of what came true.
      count: int64, how many there are.
      error: scalar, the expected calibration error: the mean of |share - confidence|, weighted by the counts.
    """

    confidence: np.ndarray
    share: np.ndarray
    count: np.ndarray
    error: float


class Curves(NamedTuple):
    """What `ThresholdCounts` found.

    Attributes:
      micro: `AtThresholds` of all pairs of an image and a class; NaN without a positive.
      macro_f1: mean F1 of the classes with positives at `class_thresholds`, [thresholds].
      class_thresholds: probabilities, rising.
      precisions: precision of each class with positives where its recall first reaches each of RECALLS, [classes, 100].
      class_f1, class_threshold: the best F1 of each class and its threshold, [classes], NaN without a positive.
      calibration: `Calibration` of all pairs.
    """

    micro: AtThresholds
    macro_f1: np.ndarray
    class_thresholds: np.ndarray
    precisions: np.ndarray
    class_f1: np.ndarray
    class_threshold: np.ndarray
    calibration: Calibration


class ThresholdCounts:
    """Histograms of log-odds, batch by batch."""

    def __init__(self, class_num):
        self.class_num = class_num
        self.known = np.zeros([class_num, CLASS_BINS], np.uint32)
        self.positive = np.zeros([class_num, CLASS_BINS], np.uint32)
        self.micro_known = np.zeros(MICRO_BINS, np.int64)
        self.micro_positive = np.zeros(MICRO_BINS, np.int64)

    def add(self, logits, positive, known):
        """Adds images: logits, finite float32 [images, classes]; positive and known, bool of the same shape."""
        bins = np.clip(np.floor(logits * MICRO_STEPS), LOWEST * MICRO_STEPS, -LOWEST * MICRO_STEPS - 1)
        bins = bins.astype(np.int64) - LOWEST * MICRO_STEPS
        self.micro_known += np.bincount(bins[known], minlength=MICRO_BINS)
        self.micro_positive += np.bincount(bins[positive], minlength=MICRO_BINS)
        bins = bins // (MICRO_STEPS // CLASS_STEPS) + np.arange(self.class_num) * CLASS_BINS
        np.add.at(self.known.reshape(-1), bins[known], np.uint32(1))
        np.add.at(self.positive.reshape(-1), bins[positive], np.uint32(1))

    def finish(self):
        """Returns the `Curves` of all images."""
        thresholds, f1_sum = _probabilities(CLASS_STEPS), np.zeros(CLASS_BINS)
        class_f1, class_threshold = (np.full(self.class_num, np.nan) for _ in range(2))
        precisions = []
        for k in np.flatnonzero(self.positive.any(axis=1)):
            at = _at_thresholds(thresholds, self.known[k], self.positive[k])
            f1_sum += at.f1
            class_threshold[k], class_f1[k] = best(at.threshold, at.f1)
            # Recall falls with the threshold: of those that reach a recall, the highest is the last one.
            last = np.searchsorted(-at.recall, -RECALLS + 1e-12, "right") - 1
            precisions.append(at.precision[last])
        micro = _at_thresholds(_probabilities(MICRO_STEPS), self.micro_known, self.micro_positive)
        middles = sigmoid(LOWEST + (np.arange(MICRO_BINS) + 0.5) / MICRO_STEPS)
        return Curves(
            micro,
            f1_sum / len(precisions) if precisions else np.full(CLASS_BINS, np.nan),
            thresholds,
            np.array(precisions).reshape(-1, len(RECALLS)),
            class_f1,
            class_threshold,
            calibration(middles, self.micro_positive, self.micro_known),
        )


def best(thresholds, f1):
    """Returns the threshold of the highest F1, and that; NaN if there is none.

    Where no score lies between thresholds, F1 is the same at all of them: the middle one is taken.
    """
    if not len(f1) or np.isnan(f1).all():
        return np.nan, np.nan
    first = int(np.nanargmax(f1))
    others = np.flatnonzero(f1[first:] != f1[first])
    last = first + int(others[0]) - 1 if len(others) else len(f1) - 1
    return float(thresholds[(first + last) // 2]), float(f1[first])


def calibration(probabilities, true, counts):
    """Returns the `Calibration` of groups of equal `probabilities` [n], of which `true` of `counts` [n] came true."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.searchsorted(edges[1:-1], probabilities)
    expected, came, count = (
        np.bincount(bins, weights, minlength=CALIBRATION_BINS) for weights in (probabilities * counts, true, counts)
    )
    with np.errstate(invalid="ignore"):
        confidence, share = expected / count, came / count
    error = np.abs(came - expected).sum() / count.sum() if count.sum() else np.nan
    return Calibration(confidence, share, count.astype(np.int64), float(error))


def risk_coverage(confidence, right):
    """Returns the share of wrong answers among the 1, 2, … surest ones, float64 [images], and its mean over them.

    Args:
      confidence: float [images].
      right: bool [images].
    """
    order = np.argsort(-confidence, kind="stable")
    risk = np.cumsum(~right[order]) / np.arange(1, len(right) + 1)
    return risk, float(risk.mean())


def sigmoid(x):
    """Returns the probabilities of log-odds."""
    return expit(np.asarray(x, np.float64))


def _probabilities(steps):
    """The lower edges of bins as probabilities; that of the first is 0, since it holds all that is below, too."""
    edges = sigmoid(LOWEST + np.arange(steps * 2 * -LOWEST) / steps)
    edges[0] = 0.0
    return edges


def _at_thresholds(thresholds, known, positive):
    """The `AtThresholds` of two histograms; precision is 1 where nothing is predicted, as in scikit-learn's curve."""
    predicted, hits = (np.cumsum(counts[::-1], dtype=np.int64)[::-1] for counts in (known, positive))
    positives = hits[0]
    if not positives:
        nothing = np.full(len(thresholds), np.nan)
        return AtThresholds(thresholds, nothing, nothing, nothing)
    precision = np.where(predicted, hits / np.maximum(predicted, 1), 1.0)
    return AtThresholds(thresholds, precision, hits / positives, 2 * hits / (predicted + positives))
