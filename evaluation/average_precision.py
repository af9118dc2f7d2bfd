"""Average precision of detections by the rules of PASCAL VOC: which detections are right, and the curve that they make.

A box is [left, top, right, bottom] in pixels, its edges: one over the whole image is [0, 0, width, height]. VOC counts
pixels from 1 and includes both ends, so its xmin is left + 1, and its width xmax - xmin + 1 is right - left. Overlaps
are computed in the devkit's coordinates and order of operations: of whole pixels, which are exact, each is the number
that it compares with its limit. Of others, and in means, the last digits may differ.
"""

from typing import NamedTuple

import numpy as np

# A detection matches an object from this intersection over union on (the devkit's VOCopts.minoverlap).
MIN_OVERLAP = 0.5
# From 0 to 1, as the common implementations in Python compute them, k * 0.1 in float64: of k = 3, 6 and 7 that is the
# next number above k / 10, and a recall of just k / 10 is below it. (The devkit's MATLAB may round one or the other of
# them otherwise.)
RECALLS = np.arange(11) * 0.1
# Detections and objects are compared by so many pairs at once, about 0.2 GB: files may hold any number of both.
PAIRS = 2**20
# What becomes of a detection.
RIGHT, NOTHING, DUPLICATE, WRONG = range(4)


class TrueObjects(NamedTuple):
    """The ground truth, image by image, each [objects].

    Attributes:
      image: int64, index of the image, not falling.
      label: int64, class.
      box: float64 [objects, 4].
      difficult: bool, of no weight: finding it counts as nothing, and so does missing it.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    difficult: np.ndarray


class Detections(NamedTuple):
    """What a detector found, each [detections]; of equal scores the first is counted first.

    Attributes:
      image: int64, index of the image.
      label: int64, class.
      box: float64 [detections, 4].
      score: float64, higher is surer.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray


class Matches(NamedTuple):
    """What each detection overlaps most, [detections].

    Attributes:
      object: int64, index of the object with the highest intersection over union, the first of several; -1: of none.
      overlap: float64, that intersection over union; 0 without an object.
    """

    object: np.ndarray
    overlap: np.ndarray


class Curve(NamedTuple):
    """Precision and recall of one class, from the surest detection on; those that count as nothing are left out.

    Attributes:
      recall, precision: float64 [counted].
      score: float64 [counted], falling.
      positives: number of objects that are not difficult.
    """

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray
    positives: int


def intersection_over_union(box, other):
    """Returns float64 [n] of boxes [n, 4] and [n, 4], in pixels, as the devkit computes it; 0 of two empty boxes."""
    box, other = (np.concatenate([edges[:, :2] + 1, edges[:, 2:]], axis=1) for edges in (box, other))
    sides = np.minimum(box[:, 2:], other[:, 2:]) - np.maximum(box[:, :2], other[:, :2]) + 1
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    union = _area(box) + _area(other) - shared
    return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)


def _area(box):
    """Of boxes in VOC's coordinates."""
    return (box[:, 2] - box[:, 0] + 1) * (box[:, 3] - box[:, 1] + 1)


def best_matches(objects, detections, of_class=True):
    """Returns the `Matches` of `Detections` with the `TrueObjects` of their image and, if `of_class`, their class."""
    count = 1 + max(objects.label.max(initial=0), detections.label.max(initial=0)) if of_class else 1
    key, wanted = (one.image * count + (one.label if of_class else 0) for one in (objects, detections))
    order = np.argsort(key, kind="stable")
    first, last = (np.searchsorted(key[order], wanted, side) for side in ("left", "right"))
    candidates = last - first
    best, overlap = np.full(len(wanted), -1), np.zeros(len(wanted))
    some = np.flatnonzero(candidates)
    steps = np.flatnonzero(np.diff(np.cumsum(candidates[some]) // PAIRS)) + 1
    for part in np.split(some, steps):
        # Each detection beside each of its candidates, in the objects' order; `begin` is where those of one begin.
        counts = candidates[part]
        begin = np.cumsum(counts) - counts
        pair = np.arange(counts.sum())
        candidate = order[pair - np.repeat(begin - first[part], counts)]
        shared = intersection_over_union(np.repeat(detections.box[part], counts, axis=0), objects.box[candidate])
        overlap[part] = np.maximum.reduceat(shared, begin)
        highest = np.where(shared == np.repeat(overlap[part], counts), pair, len(pair))
        best[part] = candidate[np.minimum.reduceat(highest, begin)]
    best[overlap == 0] = -1
    return Matches(best, overlap)


def outcomes(objects, detections, matches):
    """Returns what becomes of each detection, int64 [detections]: RIGHT, NOTHING, DUPLICATE or WRONG.

    It is by the object that it overlaps most, if by MIN_OVERLAP at least: of the detections of one object the surest
    is right, the others are duplicates; of a difficult object all are nothing. Others are wrong.

    Args:
      objects, detections: `TrueObjects` and `Detections`.
      matches: of `best_matches`, of the class.
    """
    found = np.full(len(detections.score), WRONG)
    near = np.flatnonzero(matches.overlap >= MIN_OVERLAP)
    near = near[np.argsort(-detections.score[near], kind="stable")]
    found[near] = DUPLICATE
    _, first = np.unique(matches.object[near], return_index=True)
    found[near[first]] = RIGHT
    found[near[objects.difficult[matches.object[near]]]] = NOTHING
    return found


def class_curves(objects, detections, found, class_num):
    """Returns the `Curve` of each class, of `TrueObjects` and `Detections`; `found` is of `outcomes`."""
    positives = np.bincount(objects.label[~objects.difficult], minlength=class_num)
    counted = np.flatnonzero(found != NOTHING)
    counted = counted[np.lexsort([-detections.score[counted], detections.label[counted]])]
    ends = np.cumsum(np.bincount(detections.label[counted], minlength=class_num))[:-1]
    return [
        _curve(found[part] == RIGHT, detections.score[part], int(count))
        for part, count in zip(np.split(counted, ends), positives, strict=True)
    ]


def _curve(right, score, positives):
    hits = np.cumsum(right)
    return Curve(hits / max(positives, 1), hits / np.arange(1, len(hits) + 1), score, positives)


def eleven_points(curve):
    """Returns the AP of VOC 2007: the mean, over RECALLS, of the highest precision at that recall or beyond.

    NaN of a class without objects, or with difficult ones only.
    """
    if not curve.positives:
        return np.nan
    highest = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    return float(highest[np.searchsorted(curve.recall, RECALLS)].mean())


def area(curve):
    """Returns the AP of VOC from 2010 on: the area under the precision that is made to fall; NaN as `eleven_points`."""
    if not curve.positives:
        return np.nan
    highest = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * highest))


def best_f1(curve):
    """Returns the highest F1 of a curve and its score; (0, inf) without a right one, NaN without objects."""
    if not curve.positives:
        return np.nan, np.nan
    if not len(curve.score) or not curve.recall[-1]:
        return 0.0, np.inf
    hits = np.rint(curve.recall * curve.positives)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + curve.positives)
    # From a score on, all of that score are taken.
    whole = np.append(curve.score[1:] < curve.score[:-1], True)
    best = int(np.argmax(np.where(whole, f1, -1)))
    return float(f1[best]), float(curve.score[best])
