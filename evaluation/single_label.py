"""Evaluation of a network that names one class an image: top-1 and top-5 accuracy."""

from typing import NamedTuple

import numpy as np

from evaluation import outputs, single_label_report
from evaluation.curves import calibration, sigmoid


class Answers(NamedTuple):
    """What became of each image.

    Attributes:
      labels: int32 [images].
      answers: int32 [images, 5 or as many as there are classes], the classes with the highest logits, best first.
      confidence: float64 [images], the probability of the first of them.
    """

    labels: np.ndarray
    answers: np.ndarray
    confidence: np.ndarray

    @property
    def right(self):
        """Whether the first answer is right, bool [images]."""
        return self.answers[:, 0] == self.labels


class SingleLabelEvaluator:
    """Top-1 and top-5 accuracy. Equal logits rank by their class, so that a constant predicts class 0.

    Attributes:
      names: of the classes, by index; see `outputs.class_names`.
      shown: the metrics that are worth a line of progress.
      answers: the `Answers`, once `result` was called.
    """

    shown = ("top_1", "top_5", "class_mean")

    def __init__(self, class_num, head="softmax", names=None):
        """`head` makes probabilities of the logits, "softmax" or "sigmoid"; `names` are as of `DetectionEvaluator`."""
        self.class_num = class_num
        self.names = outputs.class_names(names, class_num)
        self.head = head
        self.labels, self.best, self.confidence = [], [], []
        self.metrics = self.answers = None

    def settings(self):
        """Returns what the metrics depend on, by name."""
        return {}

    def disk_space(self, images):
        """Returns how many bytes `images` images take on the disk until `result` is called."""
        del images
        return 0

    def add(self, batch, outputs):
        """Adds images: "label" of `batch`, integer [images] in [0, classes), "logits" of `outputs`, [images, classes].

        Raises ValueError if a label is none of the network's classes.
        """
        logits, labels = np.asarray(outputs["logits"], np.float32), np.asarray(batch["label"])
        outside = (labels < 0) | (labels >= self.class_num)
        if outside.any():
            raise ValueError(f"a record has the label {labels[outside][0]}, the network has {self.class_num} classes")
        self.labels.append(labels.astype(np.int32))
        self.best.append(np.argsort(-logits, axis=1, kind="stable")[:, :5].astype(np.int32))
        highest = logits.max(axis=1).astype(np.float64)
        above = np.exp(logits - highest[:, None]).sum(axis=1)
        self.confidence.append(sigmoid(highest) if self.head == "sigmoid" else 1 / above)

    def result(self):
        """Returns the metrics by name.

        They are: `images`; `top_1` and `top_5`, shares in [0, 1]; `class_mean`, the mean over the classes that are
        there of the top-1 accuracy in each, as is usual for Caltech-256; `calibration_error`, the expected one, of the
        probability of the first answer.
        """
        self.answers = Answers(*(np.concatenate(parts) for parts in (self.labels, self.best, self.confidence)))
        labels, hits = self.answers.labels, self.answers.answers == self.answers.labels[:, None]
        right = np.bincount(labels[hits[:, 0]], minlength=self.class_num)
        images = np.bincount(labels, minlength=self.class_num)
        self.metrics = {
            "images": len(labels),
            "top_1": float(np.mean(hits[:, 0])),
            "top_5": float(np.mean(hits.any(axis=1))),
            "class_mean": float(np.mean(right[images > 0] / images[images > 0])),
            "calibration_error": self.calibration().error,
        }
        return self.metrics

    def calibration(self):
        """Returns the `curves.Calibration` of the first answers."""
        ones = np.ones(len(self.answers.labels))
        return calibration(self.answers.confidence, self.answers.right.astype(np.float64), ones)

    def table(self, skipped=0):
        """Returns the metrics as a person reads them; `skipped` is the number of records that were left out."""
        corrupt = f", {skipped:,} corrupt left out" if skipped else ""
        names = {"top_1": "top-1 accuracy", "top_5": "top-5 accuracy", "class_mean": "mean over classes"}
        names["calibration_error"] = "calibration error"
        lines = [f"{text:18}{self.metrics[name]:.4f}" for name, text in names.items()]
        return "\n".join([f"{self.metrics['images']:,} images{corrupt}", *lines])

    def write_report(self, folder, title):
        """Writes per_class.tsv and classes.html into `folder`.

        Args:
          folder: a `Path`.
          title: what was evaluated, on what.
        """
        rows = single_label_report.class_rows(self.answers, self.names)
        outputs.write_table(folder / "per_class.tsv", single_label_report.COLUMNS, rows)
        single_label_report.write_page(folder / "classes.html", self, title)
