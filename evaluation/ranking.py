"""Average precision and ROC AUC of thousands of classes over a stream of images, in bounded memory.

Both follow from counts: for each distinct score, how many positives have it and how many negatives lie at or above it.
`ExactRanking` takes the counts from all scores, which lie on disk; `BinnedRanking` from histograms in memory, as if
scores in one bin were equal, and bounds what that may change.

Unknown labels take no part. Equal scores form one threshold: AP is the sum over thresholds of (recall gained) x
(precision there), without interpolation, as in scikit-learn; AUC counts a tie of a positive with a negative as half.
"Micro" metrics treat all (image, class) pairs as one class.
"""

import tempfile
from typing import NamedTuple

import numpy as np

# Exact: images are transposed in tiles of so many, so that one class's scores lie together on disk.
TILE = 512
# Exact: scores of the classes that are worked on at once (32 MB), if a single class has not more.
BLOCK = 2**23
# Binned: bins of a class, and images from which their spacing is taken.
BINS = 1024
CALIBRATION = 256
# Binned: where the bins are densest, in deviations above the mean. At 3 lies the highest thousandth of a normal law.
CENTRE = 3.0
# Binned: leading bits of a float32 (sign, 8 of exponent, 11 of mantissa) that make a bin of the micro metrics.
MICRO_BITS = 20


class BestF1(NamedTuple):
    """The highest micro F1, its precision and recall, and the least score that counts as predicted then; or NaN."""

    score: float
    precision: float
    recall: float
    f1: float


class Ranking(NamedTuple):
    """Metrics per class, each [classes], and micro metrics, scalars, and the micro `BestF1`.

    `ap` is NaN for a class without a positive, `auc` also for one without a negative. `ap_error` and `micro_ap_error`
    are the most by which an AP may differ from the exact one (0 in exact mode). `positives` and `known` are int64
    counts of images, the others float64.
    """

    ap: np.ndarray
    auc: np.ndarray
    ap_error: np.ndarray
    positives: np.ndarray
    known: np.ndarray
    micro_ap: float
    micro_auc: float
    micro_ap_error: float
    best_f1: BestF1


def average_precision_and_auc(scores, positive):
    """Returns average precision and ROC AUC (floats; NaN where undefined) of one class.

    Args:
      scores: float [images], any finite scale.
      positive: bool [images].
    """
    return _from_scores(scores[positive], np.sort(scores[~positive]))


def chance_average_precision(positives, known):
    """Returns the expected average precision of a random order of `known` images, `positives` > 0 of them positive.

    It is more than the prevalence where images are few: one positive among 200 reaches 0.029, not 0.005. (The i-th
    image is positive with probability P / n, and then 1 + (P - 1) (i - 1) / (n - 1) of the first i are expected to
    be; the mean of 1 / i over the n places is H / n, with H the n-th harmonic number.)
    """
    n = np.asarray(known, np.float64)
    per_place = _harmonic(n) / n
    others = (positives - 1) / np.maximum(n - 1, 1)
    return others * (1 - per_place) + per_place


def _harmonic(n):
    """Returns 1 + 1/2 + … + 1/n for an array of whole n >= 1, to 1e-14: summed, or by Euler-Maclaurin from 1000 on."""
    table = np.cumsum(1 / np.arange(1, 1000))
    series = np.log(n) + np.euler_gamma + 1 / (2 * n) - 1 / (12 * n**2)
    return np.where(n < 1000, table[np.minimum(n, 999).astype(int) - 1], series)


class ExactRanking:
    """Exact metrics: 4.125 bytes a score on disk, in files without a name, which vanish with the process.

    At 11,166 classes and 88,739 images that is 4.1 GB. Memory: one tile (512 images), one block of classes and
    its copies (some 5 x the greater of 32 MB and 4 bytes an image), and the score of each positive label (4 bytes).
    """

    def __init__(self, class_num, folder=None):
        """`folder` is where the files are (default: that of `tempfile`). Raises OSError when the disk is full."""
        self.class_num = class_num
        self.images = 0
        self.scores_file = tempfile.TemporaryFile(dir=folder)
        self.positive_file = tempfile.TemporaryFile(dir=folder)
        self.scores = np.full([TILE, class_num], np.nan, np.float32)
        self.positive = np.zeros([TILE, class_num], bool)
        self.positive_scores = []

    def add(self, scores, positive, known):
        """Adds images: scores, finite float32 [images, classes]; positive and known, bool of the same shape."""
        self.positive_scores.append(scores[positive])
        done = 0
        while done < len(scores):
            row = self.images % TILE
            count = min(TILE - row, len(scores) - done)
            part = slice(done, done + count)
            # NaN marks the unknown, so that no third file is needed.
            self.scores[row : row + count] = np.where(known[part], scores[part], np.nan)
            self.positive[row : row + count] = positive[part]
            self.images += count
            done += count
            if self.images % TILE == 0:
                self._write_tile()

    def _write_tile(self):
        self.scores_file.write(np.ascontiguousarray(self.scores.T))
        self.positive_file.write(np.ascontiguousarray(np.packbits(self.positive, axis=0).T))
        self.scores[:] = np.nan
        self.positive[:] = False

    def finish(self):
        """Returns the `Ranking` of all images, and gives the disk space back."""
        if self.images % TILE:
            self._write_tile()
        thresholds, at = np.unique(np.concatenate([np.empty(0, np.float32), *self.positive_scores]), return_counts=True)
        not_below = np.zeros(len(thresholds), np.int64)
        above = np.zeros(len(thresholds), np.int64)
        classes = []
        for scores, positive in self._blocks():
            negative = ~positive & ~np.isnan(scores)
            for row, is_positive, is_negative in zip(scores, positive, negative, strict=True):
                positives, negatives = row[is_positive], row[is_negative]
                negatives.sort()
                classes.append((*_from_scores(positives, negatives), len(positives), len(positives) + len(negatives)))
            negatives = scores[negative]
            negatives.sort()
            not_below += len(negatives) - np.searchsorted(negatives, thresholds, "left")
            above += len(negatives) - np.searchsorted(negatives, thresholds, "right")
        self.scores_file.close()
        self.positive_file.close()
        ap, auc, positives, known = (np.array(column) for column in zip(*classes, strict=True))
        micro_ap, micro_auc = _from_counts(at[::-1], not_below[::-1], above[::-1], int(np.sum(known - positives)))
        best = _best_f1(thresholds[::-1], at[::-1], not_below[::-1])
        micro = float(micro_ap), float(micro_auc), 0.0, best
        return Ranking(ap, auc, np.zeros(self.class_num), positives, known, *micro)

    def _blocks(self):
        """Yields scores, float32 [some classes, images], NaN where unknown, and which are positive, bool."""
        tiles = -(-self.images // TILE)
        step = max(1, BLOCK // max(1, tiles * TILE))
        for begin in range(0, self.class_num, step):
            count = min(step, self.class_num - begin)
            scores = np.empty([tiles, count, TILE], np.float32)
            bits = np.empty([tiles, count, TILE // 8], np.uint8)
            for tile in range(tiles):
                for file, array in ((self.scores_file, scores), (self.positive_file, bits)):
                    file.seek((tile * self.class_num + begin) * array[tile, 0].nbytes)
                    file.readinto(array[tile])
            bits = bits.transpose(1, 0, 2).reshape(count, -1)
            yield scores.transpose(1, 0, 2).reshape(count, -1), np.unpackbits(bits, axis=1).view(bool)


class BinnedRanking:
    """Metrics of scores rounded to bins: 8 KB a class (91 MB at 11,166 classes) and 16 MB, however many images.

    The 1,024 bins of a class lie densest around 3 deviations above the mean of its first images: among the highest
    scores, which decide an AP, the order counts most. They reach to infinity on both sides. What rounding does to an AP
    is bounded from the counts themselves by `ap_error`; to an AUC, by half the share of its pairs of a positive and a
    negative that fall into one bin.
    """

    def __init__(self, class_num):
        self.class_num = class_num
        self.known = np.zeros([class_num, BINS], np.uint32)
        self.positive = np.zeros([class_num, BINS], np.uint32)
        self.micro_known = np.zeros(2**MICRO_BITS, np.int64)
        self.micro_positive = np.zeros(2**MICRO_BITS, np.int64)
        self.centre = self.width = None
        self.uncounted = []

    def add(self, scores, positive, known):
        """Adds images: scores, finite float32 [images, classes]; positive and known, bool of the same shape."""
        if self.centre is not None:
            self._count(scores, positive, known)
            return
        self.uncounted.append((scores, positive, known))
        if sum(len(scores) for scores, _, _ in self.uncounted) >= CALIBRATION:
            self._calibrate()

    def _calibrate(self):
        """Places the bins by the images that came so far, and counts those."""
        scores = np.concatenate([scores for scores, _, _ in self.uncounted])
        deviation = scores.std(0, dtype=np.float64)
        self.centre = scores.mean(0, dtype=np.float64) + CENTRE * deviation
        self.width = np.where(deviation > 0, deviation, 1.0)
        for batch in self.uncounted:
            self._count(*batch)
        self.uncounted = []

    def _count(self, scores, positive, known):
        # x / (1 + |x|) maps all numbers into (-1, 1). In float64, and for float32 scores, it keeps their order.
        x = (scores - self.centre) / self.width
        bins = ((x / (1 + np.abs(x)) + 1) * (BINS / 2)).astype(np.int64)
        bins = np.minimum(bins, BINS - 1) + np.arange(self.class_num) * BINS
        np.add.at(self.known.reshape(-1), bins[known], np.uint32(1))
        np.add.at(self.positive.reshape(-1), bins[positive], np.uint32(1))
        bins = _leading_bits(scores)
        self.micro_known += np.bincount(bins[known], minlength=2**MICRO_BITS)
        self.micro_positive += np.bincount(bins[positive], minlength=2**MICRO_BITS)

    def finish(self):
        """Returns the `Ranking` of all images."""
        if self.uncounted:
            self._calibrate()
        rows = [_from_bins(known, positive) for known, positive in zip(self.known, self.positive, strict=True)]
        ap, auc, error = (np.array(column) for column in zip(*rows, strict=True))
        positives, known = self.positive.sum(1, dtype=np.int64), self.known.sum(1, dtype=np.int64)
        micro_ap, micro_auc, micro_error = _from_bins(self.micro_known, self.micro_positive)
        at = self.micro_positive[::-1]
        not_below = np.cumsum(self.micro_known[::-1] - at)
        there = np.flatnonzero(at)
        best = _best_f1(_lowest_scores(2**MICRO_BITS - 1 - there), at[there], not_below[there])
        return Ranking(ap, auc, error, positives, known, float(micro_ap), float(micro_auc), float(micro_error), best)


def _leading_bits(scores):
    """Returns, for float32 scores, integers in [0, 2**MICRO_BITS) that rise with the score."""
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum makes -0 the same as 0
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (rising >> (32 - MICRO_BITS)).astype(np.int64)


def _lowest_scores(bins):
    """Returns the lowest float32 score in each bin of `_leading_bits`."""
    rising = bins.astype(np.uint32) << np.uint32(32 - MICRO_BITS)
    return np.where(rising >> 31, rising & np.uint32(2**31 - 1), ~rising).view(np.float32)


def _best_f1(scores, at, not_below):
    """Returns the `BestF1` of falling `scores` of positives; `at` and `not_below` as of `_from_counts`."""
    if not len(at):
        return BestF1(*[np.nan] * 4)
    hits = np.cumsum(at)
    f1 = 2 * hits / (hits + not_below + hits[-1])
    k = int(f1.argmax())
    precision, recall = hits[k] / (hits[k] + not_below[k]), hits[k] / hits[-1]
    return BestF1(float(scores[k]), float(precision), float(recall), float(f1[k]))


def _from_scores(positives, negatives):
    """Returns AP and AUC from the scores of the positives and the sorted scores of the negatives."""
    thresholds, at = np.unique(positives, return_counts=True)
    not_below = len(negatives) - np.searchsorted(negatives, thresholds, "left")
    above = len(negatives) - np.searchsorted(negatives, thresholds, "right")
    return _from_counts(at[::-1], not_below[::-1], above[::-1], len(negatives))


def _from_counts(at, not_below, above, negatives):
    """Returns AP and AUC from integer counts at falling thresholds, each [thresholds].

    `at` counts positives that have the threshold as their score, `not_below` and `above` negatives with a score at or
    above it and above it, of `negatives` in all.
    """
    if not len(at):
        return np.nan, np.nan
    hits = np.cumsum(at)
    ap = np.sum(at / hits[-1] * (hits / (hits + not_below)))
    if not negatives:
        return ap, np.nan
    return ap, 1.0 - np.sum(at / hits[-1] * ((not_below + above) / 2 / negatives))


def _from_bins(known, positive):
    """Returns AP, AUC and the largest error of the AP from two histograms over rising scores, each [bins].

    A positive's precision is that at the end of its group of equal scores. Whatever the order inside a bin with p
    positives and n negatives, after t positives and f negatives above it, the i-th positive's precision is at least
    (t + i) / (t + i + f + n) and at most (t + p) / (t + p + f). The former is concave in i, so its sum is at least
    p times the mean of the first and the last.
    """
    known = known[::-1].astype(np.int64)
    at = positive[::-1].astype(np.int64)
    not_below = np.cumsum(known - at)
    negatives = not_below[-1]
    above = not_below - (known - at)
    hits = np.cumsum(at)
    at, not_below, above, hits = (counts[at > 0] for counts in (at, not_below, above, hits))
    ap, auc = _from_counts(at, not_below, above, negatives)
    if not len(at):
        return ap, auc, np.nan
    first = hits - at + 1
    low = np.sum(at / hits[-1] * (first / (first + not_below) + hits / (hits + not_below)) / 2)
    high = np.sum(at / hits[-1] * (hits / (hits + above)))
    return ap, auc, max(high - ap, ap - low)
