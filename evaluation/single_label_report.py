"""A report on a single-label classifier, class by class, with a confusion image, in one HTML file."""

import html

import numpy as np

from evaluation import confusion, curves, figures, page
from utils.files import write_text

COLUMNS = ("index", "name", "images", "accuracy", "precision", "top_5", "taken_for")


def class_rows(answers, names):
    """Returns a row of COLUMNS for each class: shares in [0, 1], NaN where undefined, and what it is taken for most."""
    counts = confusion.count(answers.labels, answers.answers[:, 0], len(names))
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
    counts = confusion.count(answers.labels, answers.answers[:, 0], len(names))
    rows = sorted((row for row in class_rows(answers, names) if row[2]), key=lambda row: row[3])
    pairs = confusion.most_confused(counts, names)
    table = "".join(
        f"<tr><td>{html.escape(name)}<td class=n>{images}<td class=n>{accuracy:.3f}"
        f"<td><div class=bar style='width:{150 * accuracy:.0f}px'></div><td class=n>{precision:.3f}"
        f"<td class=n>{five:.3f}<td>{html.escape(other)}"
        for _, name, images, accuracy, precision, five, other in rows
    )
    sections = [
        f"<p>{html.escape(title)}</p><p>{metrics['images']:,} images of {len(rows):,} classes: top-1 "
        f"{metrics['top_1']:.4f}, top-5 {metrics['top_5']:.4f}, mean over the classes {metrics['class_mean']:.4f}.</p>",
        f"<h2>Confusion</h2>{confusion.picture(counts, names, 'images')}",
        f"<h2>Most often confused</h2>{page.table(('class', 'taken for', 'times', 'of its images'), pairs)}",
        "<h2>How far its probabilities can be trusted</h2>",
        page.figure(figures.calibration(evaluator.calibration(), "first answers"), "Probability of the first answer."),
        page.figure(figures.risk_coverage(*curves.risk_coverage(answers.confidence, answers.right))),
        "<h2>Classes, worst first</h2>"
        "<table><tr><th>class<th>images<th>accuracy<th><th>precision<th>in the first five<th>most taken for"
        f"{table}</table>",
    ]
    write_text(path, page.page("Class by class", sections))
