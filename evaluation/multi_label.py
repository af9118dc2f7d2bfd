"""Evaluation of a network that gives an image any number of classes.

For every class: average precision and ROC AUC (`evaluation/ranking.py`); for every image: precision, recall and F1 of
its predicted labels, taken either as the k highest scores or as all with a probability of at least a threshold; over
all thresholds precision, recall and F1, and calibration (`evaluation/curves.py`).

A label above `positive_thres` is positive, -1 is unknown, any other negative. An unknown label takes part in nothing:
neither in its class's ranking nor among its image's predictions.
"""

from typing import NamedTuple

import numpy as np

from evaluation import multi_label_report, outputs
from evaluation.curves import ThresholdCounts, best, sigmoid
from evaluation.ranking import BinnedRanking, ExactRanking, chance_average_precision

# Images that are worked on at once, since some ten temporary arrays are as large as their logits.
SLICE = 256
# Exact mode, on disk: a float32 and a bit.
BYTES_PER_SCORE = 4 + 1 / 8
# The best threshold is a little below a score, which others compute in float32.
ROUNDED = 1 - 1e-6


class MultiLabelConfig(NamedTuple):
    """What counts as positive and as predicted.

    Attributes:
      top_k_pred: number of classes predicted for an image; all of them if there are fewer.
      threshold: probability in (0, 1) from which on a class is predicted.
      positive_thres: confidence in [0, 1) above which a label is positive.
      ap_mode: "exact" (scores lie on disk) or "binned" (histograms in memory), see `evaluation/ranking.py`.
      head: what the network was trained with: "sigmoid", as which None counts, or "softmax", whose probabilities are
        then those that rank images and reach the threshold.
    """

    top_k_pred: int = 5
    threshold: float = 0.5
    positive_thres: float = 0.0
    ap_mode: str = "exact"
    head: str | None = None


class MultiLabelEvaluator:
    """Ranking of images in each class, and precision, recall and F1 of each image's predicted labels.

    Attributes:
      shown: the metrics that are worth a line of progress.
      classes: the `Ranking` of the classes, once `result` was called.
      curves: the `Curves` over the thresholds, then.
    """

    shown = ("macro_map", "micro_ap", "macro_auc", "f1_top_k")

    def __init__(self, class_num, config=MultiLabelConfig(), scratch_dir=None, names=None):
        """Takes what is known before.

        Args:
          class_num: number of classes.
          config: a `MultiLabelConfig`.
          scratch_dir: folder for the scores of exact mode, or None for the system's for temporary files.
          names: (WordNet id or "", names) of each class, by index, or None.
        """
        if config.ap_mode not in ("exact", "binned"):
            raise ValueError(f"ap_mode {config.ap_mode!r}: choose exact or binned")
        if not 0 < config.threshold < 1:
            raise ValueError(f"threshold {config.threshold}: a probability between 0 and 1 is needed")
        self.class_num = class_num
        self.names = names or [("", "")] * class_num
        self.config = config._replace(top_k_pred=min(config.top_k_pred, class_num))
        self.ranking = BinnedRanking(class_num) if config.ap_mode == "binned" else ExactRanking(class_num, scratch_dir)
        self.counts = ThresholdCounts(class_num)
        self.logit_threshold = np.log(config.threshold / (1 - config.threshold))
        self.images = 0
        self.top_k_sums = self.threshold_sums = 0
        self.metrics = self.classes = self.curves = None

    def settings(self):
        """Returns what the metrics depend on, by name."""
        named = {name: getattr(self.config, name) for name in ("ap_mode", "threshold", "positive_thres")}
        return named | {"top_k": self.config.top_k_pred}

    def disk_space(self, images):
        """Returns how many bytes `images` images take on the disk until `result` is called."""
        return images * self.class_num * BYTES_PER_SCORE if self.config.ap_mode == "exact" else 0

    def add(self, batch, outputs):
        """Adds images.

        Args:
          batch: "label", confidences or -1, float [images, classes].
          outputs: "logits", finite, float [images, classes].
        """
        logits, labels = np.asarray(outputs["logits"], np.float32), np.asarray(batch["label"])
        for begin in range(0, len(logits), SLICE):
            part = logits[begin : begin + SLICE]
            self._add(_log_odds(part) if self.config.head == "softmax" else part, labels[begin : begin + SLICE])

    def _add(self, logits, labels):
        known = labels >= 0
        positive = known & (labels > self.config.positive_thres)
        self.ranking.add(logits, positive, known)
        self.counts.add(logits, positive, known)
        best = highest(np.where(known, logits, -np.inf), self.config.top_k_pred)
        self.top_k_sums += _image_sums(best & known, positive)
        self.threshold_sums += _image_sums((logits >= self.logit_threshold) & known, positive)
        self.images += len(logits)

    def result(self):
        """Returns the metrics by name, NaN where undefined; to be called once.

        They are: `images`; `classes_with_positives`; `macro_map`, the mean AP of those classes; `macro_auc`, the mean
        AUC of those that also have negatives; `chance_map`, the mean of what scores at random are expected to reach in
        the same classes; `micro_ap`, `chance_micro_ap`, `micro_auc`; in binned mode `macro_map_error` and
        `micro_ap_error`, by how much they may be wrong. Further, for X = top_k and threshold, `precision_X`,
        `recall_X` and `f1_X`, which are means over images with at least one positive label (precision 0 if nothing
        was predicted; F1 taken per image), and `overall_precision_X`, `overall_recall_X` and `overall_f1_X`, from the
        total counts over all images. `best_threshold` has the highest overall F1, `best_f1`, with `best_precision` and
        `best_recall`; of the thresholds of `evaluation/curves.py`, `best_macro_threshold` has the highest mean F1 of
        the classes with positives, `best_macro_f1`. `calibration_error` is the expected one, over all labels.
        """
        self.classes = classes = self.ranking.finish()
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
        if self.config.ap_mode == "binned":
            metrics["macro_map_error"] = _mean(classes.ap_error[present])
            metrics["micro_ap_error"] = classes.micro_ap_error
        metrics |= _ratios("top_k", self.top_k_sums) | _ratios("threshold", self.threshold_sums)
        self.curves = self.counts.finish()
        self.metrics = metrics | _best(classes.best_f1, self.curves)
        return self.metrics

    def table(self, skipped=0):
        """Returns the metrics as a person reads them; `skipped` is the number of records that were left out."""
        return multi_label_report.table(self.metrics, self.class_num, self.config, skipped)

    def write_report(self, folder, title):
        """Writes per_class.tsv, the figures and report.html, which shows them, into `folder`.

        Args:
          folder: a `Path`.
          title: what was evaluated, on what.
        """
        found = multi_label_report.Found(self.metrics, self.classes, self.curves)
        columns, rows = multi_label_report.class_rows(self.classes, self.names, self.config.ap_mode)
        outputs.write_table(folder / "per_class.tsv", columns, rows)
        drawn = multi_label_report.write_figures(folder, found)
        multi_label_report.write_page(folder / "report.html", found, self.names, title, (self.table(), drawn))


def highest(scores, k):
    """Returns which scores are the k highest of their row, bool [rows, columns]; of equal ones the first are taken."""
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    above = scores > least
    equal = scores == least
    return above | (equal & (np.cumsum(equal, axis=1) <= k - above.sum(axis=1, keepdims=True)))


def _log_odds(logits):
    """Returns the logits whose sigmoid is the softmax of `logits`, float [images, classes]."""
    above = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shares = np.exp(above)
    best = np.arange(len(logits)), logits.argmax(axis=1)
    rest = shares.copy()
    rest[best] = 0
    others = shares.sum(axis=1, keepdims=True) - shares
    others[best] = rest.sum(axis=1)  # (a difference would be nothing but rounding where one class has almost all)
    return (above - np.log(np.maximum(others, np.finfo(np.float64).tiny))).astype(np.float32)


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
    """Returns the metrics, see `MultiLabelEvaluator.result`, from the sums of `_image_sums`."""
    images, precision, recall, f1, hits, predictions, positives = sums
    return {
        f"precision_{suffix}": _divide(precision, images),
        f"recall_{suffix}": _divide(recall, images),
        f"f1_{suffix}": _divide(f1, images),
        f"overall_precision_{suffix}": _divide(hits, predictions),
        f"overall_recall_{suffix}": _divide(hits, positives),
        f"overall_f1_{suffix}": _divide(2 * hits, predictions + positives),
    }


def _best(best_f1, found):
    """Returns the metrics of the best thresholds, from a `ranking.BestF1` and `Curves`, and the calibration."""
    macro_threshold, macro_f1 = best(found.class_thresholds, found.macro_f1)
    return {
        "best_threshold": float(sigmoid(best_f1.score)) * ROUNDED,
        "best_f1": best_f1.f1,
        "best_precision": best_f1.precision,
        "best_recall": best_f1.recall,
        "best_macro_threshold": macro_threshold,
        "best_macro_f1": macro_f1,
        "calibration_error": found.calibration.error,
    }


def _divide(a, b):
    return float(a / b) if b else np.nan


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan
