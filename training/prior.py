"""What a run takes from how often each class is labelled: the biases of new logits, and the weights of classes."""

import functools
import math

import numpy as np

from data_processing.records import label_counts
import distributed


def counting(index, class_num, is_plan=False):
    """Returns a function to the `LabelCounts` of the training records, which reads them at its first call, if at all.

    Args:
      index: `RecordIndex` of the training records, or None.
      class_num: number of classes.
      is_plan: whether an estimate does, which writes nothing; without records the function returns None then.
    """
    if is_plan and not (index and index.paths):
        return lambda: None
    counted = label_counts.estimate if is_plan else label_counts.of_split
    return functools.cache(functools.partial(counted, index, "train", class_num))


def class_counts(loss, counted, class_num):
    """Returns what `tasks.classification.build` wants to know of the classes: the sums of their labels, [class_num].

    Args:
      loss: name of the loss; None is returned for one that does not ask.
      counted: what `counting` returned; rank 0 calls it, and all ranks must call this.
      class_num: number of classes; where nothing could be counted, to plan with, they are all alike.
    """
    if loss != "class_balanced":
        return None
    counts = distributed.from_first(counted)
    return counts.confidences if counts else np.ones(class_num)


def head_bias(asked, head, class_num, counted):
    """Returns the biases that new logits begin with, float32 [class_num].

    Args:
      asked: --head_bias: "prior", "zero" or a number.
      head: "sigmoid" or "softmax".
      class_num: number of classes.
      counted: what `counting` returned; called for "prior" only.
    """
    if asked == "prior":
        return np.float32((log_shares if head == "softmax" else log_odds)(counted()))
    return np.full(class_num, 0.0 if asked == "zero" else float(asked), np.float32)


def log_odds(counts):
    """Returns log(p / (1 - p)) of each class, float64 [class_num], p = (n + 0.5) / (N + 1) of N known labels.

    With it, a network that sees nothing yet says how often each class is labelled (Lin et al. 2017, section 3.3).
    """
    return np.log(counts.confidences + 0.5) - np.log(counts.known - counts.confidences + 0.5)


def log_shares(counts):
    """Returns log p of each class, float64 [class_num], p = (n + 0.5) / sum of it over the classes."""
    smoothed = counts.confidences + 0.5
    return np.log(smoothed) - math.log(smoothed.sum())
