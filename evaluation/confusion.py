"""How often which class is taken for which: counts, what overlap they are worth, and their picture."""

import io

from matplotlib.figure import Figure
import numpy as np

from evaluation import page

# Classes that a confusion image is still readable with; beyond, those that are confused most are drawn.
DRAWN_CLASSES = 200
LABELLED_CLASSES = 60
PAIRS_SHOWN = 40


def count(truth, prediction, class_num):
    """Returns numbers of pixels, int64 [class_num, class_num], by true class and predicted one.

    Args:
      truth: integer array, classes; what is negative or from `class_num` on does not count.
      prediction: integer array of the same shape, classes below `class_num` where `truth` counts.
      class_num: number of classes.
    """
    counted = (truth >= 0) & (truth < class_num)
    pairs = truth[counted].astype(np.int64) * class_num + prediction[counted]
    return np.bincount(pairs, minlength=class_num**2).reshape(class_num, class_num)


def overlaps(counts):
    """Returns the intersection over union of each class, float64 [classes]; NaN of one that is nowhere.

    `counts` are as of `count`, of an image or of many. It is TP / (TP + FP + FN), as of VOC from 2008 on.
    """
    right = np.diag(counts)
    return shares(right, counts.sum(axis=0) + counts.sum(axis=1) - right)


def shares(part, whole):
    """Returns part / whole of arrays, float64; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def most_confused(counts, names):
    """Returns rows (class, taken for, how often, text of the share of the class) of the most frequent mistakes."""
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(k), len(names)) for k in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS_SHOWN]]
    return [
        (names[a], names[b], int(wrong[a, b]), f"{wrong[a, b] / counts[a].sum():.1%}") for a, b in pairs if wrong[a, b]
    ]


def picture(counts, names, what):
    """Returns the matrix as HTML, with a PNG in it, each row as shares of what is of its class.

    Args:
      counts: int64 [classes, classes], by true class and answer.
      names: of the classes, by index.
      what: is counted, in the plural, "images".
    """
    of_class = counts.sum(axis=1)
    present = np.flatnonzero(of_class)
    chosen, text = present, "All classes"
    if len(present) > DRAWN_CLASSES:
        accuracy = np.diag(counts)[present] / of_class[present]
        chosen = np.sort(present[np.argsort(accuracy, kind="stable")[:DRAWN_CLASSES]])
        text = f"The {DRAWN_CLASSES} classes with the lowest accuracy of {len(present):,}"
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots()
    shown = counts[np.ix_(chosen, chosen)] / of_class[chosen, None]
    image = axes.imshow(shown, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="answer", ylabel="class")
    if len(chosen) <= LABELLED_CLASSES:
        short = [names[k].split(",")[0] for k in chosen]
        axes.set_xticks(range(len(chosen)), short, rotation=90, fontsize=7)
        axes.set_yticks(range(len(chosen)), short, fontsize=7)
    figure.colorbar(image, shrink=0.6, label=f"share of the class's {what}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return f"<p>{text}, in the order of their indices.</p>{page.figure(buffer.getvalue())}"
