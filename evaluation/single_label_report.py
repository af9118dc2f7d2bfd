"""A report on a single-label classifier, class by class, with a confusion image, in one HTML file."""

import html
import io

from matplotlib.figure import Figure
import numpy as np

from evaluation import curves, figures, page
from utils.files import write_text

# Classes that a confusion image is still readable with; beyond, those that are confused most are drawn.
DRAWN_CLASSES = 200
LABELLED_CLASSES = 60
PAIRS_SHOWN = 40
COLUMNS = ("index", "name", "images", "accuracy", "precision", "top_5", "taken_for")


def confusion(answers, class_num):
    """Returns how often which class was answered: int64 [label, answer] of a `single_label.Answers`."""
    counts = np.bincount(answers.labels.astype(np.int64) * class_num + answers.answers[:, 0], minlength=class_num**2)
    return counts.reshape(class_num, class_num)


def class_rows(answers, names):
    """Returns a row of COLUMNS for each class: shares in [0, 1], NaN where undefined, and what it is taken for most."""
    counts = confusion(answers, len(names))
    images, answered, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    in_five = (answers.answers == answers.labels[:, None]).any(axis=1)
    five = np.bincount(answers.labels[in_five], minlength=len(names))
    wrong = counts - np.diag(right)
    rows = []
    for k, name in enumerate(names):
        other = names[int(wrong[k].argmax())] if wrong[k].any() else ""
        shares = [_share(right[k], images[k]), _share(right[k], answered[k]), _share(five[k], images[k])]
        rows.append((k, name, int(images[k]), *shares, other))
    return rows


def _share(part, whole):
    return float(part / whole) if whole else np.nan


def write_page(path, evaluator, title):
    """Writes the report.

    Args:
      path: of the HTML file.
      evaluator: `single_label.SingleLabelEvaluator`, when it has its result.
      title: what was evaluated, on what.
    """
    answers, metrics, names = evaluator.answers, evaluator.metrics, evaluator.names
    counts = confusion(answers, len(names))
    rows = sorted((row for row in class_rows(answers, names) if row[2]), key=lambda row: row[3])
    wrong = counts - np.diag(np.diag(counts))
    pairs = [divmod(int(k), len(names)) for k in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS_SHOWN]]
    table = "".join(
        f"<tr><td>{html.escape(name)}<td class=n>{images}<td class=n>{accuracy:.3f}"
        f"<td><div class=bar style='width:{150 * accuracy:.0f}px'></div><td class=n>{precision:.3f}"
        f"<td class=n>{five:.3f}<td>{html.escape(other)}"
        for _, name, images, accuracy, precision, five, other in rows
    )
    confused = "".join(
        f"<tr><td>{html.escape(names[a])}<td>{html.escape(names[b])}<td class=n>{wrong[a, b]}<td class=n>"
        f"{wrong[a, b] / counts[a].sum():.0%}"
        for a, b in pairs
        if wrong[a, b]
    )
    sections = [
        f"<p>{html.escape(title)}</p><p>{metrics['images']:,} images of {len(rows):,} classes: top-1 "
        f"{metrics['top_1']:.4f}, top-5 {metrics['top_5']:.4f}, mean over the classes {metrics['class_mean']:.4f}.</p>",
        f"<h2>Confusion</h2>{_image(counts, names)}<h2>Most often confused</h2>"
        f"<table><tr><th>class<th>taken for<th>times<th>of its images{confused}</table>",
        "<h2>How far its probabilities can be trusted</h2>",
        page.figure(figures.calibration(evaluator.calibration(), "first answers"), "Probability of the first answer."),
        page.figure(figures.risk_coverage(*curves.risk_coverage(answers.confidence, answers.right))),
        "<h2>Classes, worst first</h2>"
        "<table><tr><th>class<th>images<th>accuracy<th><th>precision<th>in the first five<th>most taken for"
        f"{table}</table>",
    ]
    write_text(path, page.page("Class by class", sections))


def _image(counts, names):
    """The confusion matrix as an embedded PNG, each row as shares of its class's images."""
    present = np.flatnonzero(counts.sum(axis=1))
    chosen, text = present, "All classes"
    if len(present) > DRAWN_CLASSES:
        accuracy = np.diag(counts)[present] / counts.sum(axis=1)[present]
        chosen = np.sort(present[np.argsort(accuracy, kind="stable")[:DRAWN_CLASSES]])
        text = f"The {DRAWN_CLASSES} classes with the lowest accuracy of {len(present):,}"
    shares = counts[np.ix_(chosen, chosen)] / counts.sum(axis=1)[chosen, None]
    labelled = len(chosen) <= LABELLED_CLASSES
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="answer", ylabel="class")
    if labelled:
        short = [names[k].split(",")[0] for k in chosen]
        axes.set_xticks(range(len(chosen)), short, rotation=90, fontsize=7)
        axes.set_yticks(range(len(chosen)), short, fontsize=7)
    figure.colorbar(image, shrink=0.6, label="share of the class's images")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return f"<p>{text}, in the order of their indices.</p>{page.figure(buffer.getvalue())}"
