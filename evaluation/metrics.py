"""Measures of a classifier over a stream of batches: `evaluate(predictions(predict, batches), class_num)`.

Multi-label, for every class: average precision and ROC AUC (`evaluation/ranking.py`); for every image: precision, recall
and F1 of its predicted labels, taken either as the k highest scores or as all with a probability of at least a
threshold. Single-label: top-1 and top-5 accuracy.

A label above `positive_thres` is positive, -1 is unknown, any other negative. An unknown label takes part in nothing:
neither in its class's ranking nor among its image's predictions.
"""

from typing import NamedTuple

import numpy as np

from evaluation.ranking import BinnedRanking, ExactRanking

# Images that are worked on at once, since some ten temporary arrays are as large as their logits.
SLICE = 256


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    Attributes:
      metrics: scalars by name, NaN where undefined; see `MultiLabelMetrics.finish`, `SingleLabelMetrics.finish`.
      classes: multi-label: a `Ranking` with one value a class; single-label: the `Answers`.
      skipped: names of the corrupt records, which were left out.
    """

    metrics: dict
    classes: object
    skipped: list


def predictions(predict, batches):
    """Yields `batches` with "logits", what `predict` makes of "image", in its place: see `evaluate`."""
    for batch in batches:
        batch["logits"] = predict(batch.pop("image"))
        yield {name: np.asarray(value) for name, value in batch.items()}


def evaluate(
    batches,
    class_num,
    *,
    top_k=5,
    threshold=0.5,
    positive_thres=0.0,
    ap_mode="exact",
    scratch_dir=None,
    max_skipped=0.01,
):
    """Measures predictions.

    Args:
      batches: iterable of dictionaries of arrays: logits, float [batch, class_num]; label, float [batch, class_num], or
        integer [batch] for single-label records; name and valid, as in `data_processing.dataset.evaluation_batches`.
      class_num: number of classes.
      top_k, threshold, positive_thres, ap_mode, scratch_dir: see `MultiLabelMetrics`.
      max_skipped: largest share, in [0, 1], of records that may be corrupt (valid False).

    Returns:
      An `Evaluation`.

    Raises:
      ValueError: no image at all, too many corrupt records, a logit that is not finite, a label out of range.
      OSError: the disk is full (exact mode).
    """
    total, skipped, seen = None, [], 0
    for batch in batches:
        valid = np.asarray(batch["valid"])
        names = [name.decode(errors="replace") for name in np.asarray(batch["name"]).tolist()]
        seen += len(valid)
        skipped += [name for name, good in zip(names, valid, strict=True) if not good]
        logits, labels = np.asarray(batch["logits"], np.float32), np.asarray(batch["label"])
        finite = np.isfinite(logits).all(axis=1)
        if not finite[valid].all():
            name = names[np.flatnonzero(valid & ~finite)[0]]
            raise ValueError(f"{name}: its logits are not finite; take an older checkpoint, or --precision=float32")
        if total is None:
            if labels.ndim == 1:
                total = SingleLabelMetrics(class_num)
            else:
                total = MultiLabelMetrics(class_num, top_k, threshold, positive_thres, ap_mode, scratch_dir)
        total.add(logits[valid], labels[valid])
    if len(skipped) > max_skipped * seen:
        raise ValueError(
            f"{len(skipped):,} of {seen:,} records are corrupt, more than --max_skipped={max_skipped:g} "
            f"({', '.join(skipped[:5])}{', …' if len(skipped) > 5 else ''}); build the shards again, or allow more"
        )
    if len(skipped) == seen:
        raise ValueError(f"there is no image to evaluate among {seen:,} records")
    metrics, classes = total.finish()
    return Evaluation(metrics, classes, skipped)


class Answers(NamedTuple):
    """What became of each image of single-label records.

    Attributes:
      labels: int32 [images].
      answers: int32 [images, 5 or as many as there are classes], the classes with the highest logits, best first.
    """

    labels: np.ndarray
    answers: np.ndarray


class SingleLabelMetrics:
    """Top-1 and top-5 accuracy. Equal logits rank by their class, so that a constant predicts class 0."""

    def __init__(self, class_num):
        self.class_num = class_num
        self.labels, self.answers = [], []

    def add(self, logits, labels):
        """Adds images: logits, float [images, classes]; labels, integer [images] in [0, classes)."""
        outside = (labels < 0) | (labels >= self.class_num)
        if outside.any():
            raise ValueError(f"a record has the label {labels[outside][0]}, the network has {self.class_num} classes")
        self.labels.append(labels.astype(np.int32))
        self.answers.append(np.argsort(-logits, axis=1, kind="stable")[:, :5].astype(np.int32))

    def finish(self):
        """Returns the metrics and the `Answers`.

        Measures: `images`; `top_1` and `top_5`, shares in [0, 1]; `class_mean`, the mean over the classes that are
        there of the top-1 accuracy in each, as is usual for Caltech-256.
        """
        labels, answers = np.concatenate(self.labels), np.concatenate(self.answers)
        hits = answers == labels[:, None]
        right = np.bincount(labels[hits[:, 0]], minlength=self.class_num)
        images = np.bincount(labels, minlength=self.class_num)
        metrics = {
            "images": len(labels),
            "top_1": _mean(hits[:, 0]),
            "top_5": _mean(hits.any(axis=1)),
            "class_mean": _mean(right[images > 0] / images[images > 0]),
        }
        return metrics, Answers(labels, answers)


class MultiLabelMetrics:
    """Ranking of images in each class, and precision, recall and F1 of each image's predicted labels."""

    def __init__(self, class_num, top_k=5, threshold=0.5, positive_thres=0.0, ap_mode="exact", scratch_dir=None):
        """Args:
        class_num: number of classes.
        top_k: number of classes predicted for an image; all of them if there are fewer.
        threshold: probability in (0, 1) from which on a class is predicted.
        positive_thres: confidence in [0, 1) above which a label is positive.
        ap_mode: "exact" (scores wait on disk) or "binned" (histograms in memory), see `evaluation/ranking.py`.
        scratch_dir: folder for the scores, or None for the system's folder for temporary files.
        """
        if ap_mode not in ("exact", "binned"):
            raise ValueError(f"ap_mode {ap_mode!r}: choose exact or binned")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold}: a probability between 0 and 1 is needed")
        self.ranking = BinnedRanking(class_num) if ap_mode == "binned" else ExactRanking(class_num, scratch_dir)
        self.ap_mode = ap_mode
        self.top_k = min(top_k, class_num)
        self.logit_threshold = np.log(threshold / (1 - threshold))
        self.positive_thres = positive_thres
        self.images = 0
        self.top_k_sums = self.threshold_sums = 0

    def add(self, logits, labels):
        """Adds images: logits, finite float32 [images, classes]; labels, confidences or -1, of the same shape."""
        for begin in range(0, len(logits), SLICE):
            self._add(logits[begin : begin + SLICE], labels[begin : begin + SLICE])

    def _add(self, logits, labels):
        known = labels >= 0
        positive = known & (labels > self.positive_thres)
        self.ranking.add(logits, positive, known)
        self.top_k_sums += _image_sums(highest(np.where(known, logits, -np.inf), self.top_k) & known, positive)
        self.threshold_sums += _image_sums((logits >= self.logit_threshold) & known, positive)
        self.images += len(logits)

    def finish(self):
        """Returns the metrics and the `Ranking` of the classes.

        Measures: `images`; `classes_with_positives`; `macro_map`, the mean AP of those classes; `macro_auc`, the mean
        AUC of those that also have negatives; `chance_map`, the mean of what scores at random are expected to reach in
        the same classes; `micro_ap`, `chance_micro_ap`, `micro_auc`; in binned mode `macro_map_error` and
        `micro_ap_error`, by how much they may be wrong. Further, for X = top_k and threshold, `precision_X`,
        `recall_X` and `f1_X`, which are means over images with at least one positive label (precision 0 if nothing
        was predicted; F1 taken per image), and `overall_precision_X`, `overall_recall_X` and `overall_f1_X`, from the
        total counts over all images.
        """
        classes = self.ranking.finish()
        present = classes.positives > 0
        positives, known = int(classes.positives.sum()), int(classes.known.sum())
        metrics = {
            "images": self.images,
            "classes_with_positives": int(present.sum()),
            "macro_map": _mean(classes.ap[present]),
            "micro_ap": classes.micro_ap,
            "macro_auc": _mean(classes.auc[~np.isnan(classes.auc)]),
            "micro_auc": classes.micro_auc,
            "chance_map": _mean(chance_average_precision(classes.positives[present], classes.known[present])),
            "chance_micro_ap": float(chance_average_precision(positives, known)) if positives else np.nan,
        }
        if self.ap_mode == "binned":
            metrics["macro_map_error"] = _mean(classes.ap_error[present])
            metrics["micro_ap_error"] = classes.micro_ap_error
        return metrics | _ratios("top_k", self.top_k_sums) | _ratios("threshold", self.threshold_sums), classes


def highest(scores, k):
    """Returns which scores are the k highest of their row, bool [rows, columns]; of equal ones the first are taken."""
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    above = scores > least
    equal = scores == least
    return above | (equal & (np.cumsum(equal, axis=1) <= k - above.sum(axis=1, keepdims=True)))


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


def _image_sums(predicted, positive):
    """Returns sums that add up over batches, float64 [7]: images with a positive label and, over those, precision,
    recall, F1; then over all images labels that are predicted and positive, predicted, positive.

    Args are bool [images, classes].
    """
    hits, predictions, positives = (x.sum(axis=1) for x in (predicted & positive, predicted, positive))
    labelled = positives > 0
    means = [hits / np.maximum(predictions, 1), hits / np.maximum(positives, 1)]
    means.append(2 * hits / np.maximum(predictions + positives, 1))
    sums = [labelled.sum(), *(mean[labelled].sum() for mean in means), hits.sum(), predictions.sum(), positives.sum()]
    return np.array(sums, np.float64)


def _ratios(suffix, sums):
    """Returns the metrics, see `MultiLabelMetrics.finish`, from the sums of `_image_sums`."""
    images, precision, recall, f1, hits, predictions, positives = sums
    return {
        f"precision_{suffix}": _divide(precision, images),
        f"recall_{suffix}": _divide(recall, images),
        f"f1_{suffix}": _divide(f1, images),
        f"overall_precision_{suffix}": _divide(hits, predictions),
        f"overall_recall_{suffix}": _divide(hits, positives),
        f"overall_f1_{suffix}": _divide(2 * hits, predictions + positives),
    }


def _divide(a, b):
    return float(a / b) if b else np.nan


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan
