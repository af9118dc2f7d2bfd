"""The report on a segmentation: a table of its metrics, one line a class, its confusion, and the worst images."""

import html
import io

import numpy as np
from PIL import Image

from evaluation import confusion, page, palette
from utils.files import write_text

COLUMNS = ("index", "class", "IoU", "accuracy", "precision", "pixels", "predicted", "taken_for")
# The table of text has a line for each of so many classes at most.
LISTED_CLASSES = 80
# Images that the page of the worst shows, and the long side of each, in pixels.
SHOWN, IMAGE_SIDE = 24, 340
GAP = 8


def table(evaluator, measures, skipped=0):
    """Returns the metrics of a `SegmentationEvaluator` as text; `measures` are texts by name of a metric."""
    m = evaluator.metrics
    corrupt = f", {skipped:,} corrupt left out" if skipped else ""
    lines = [f"{m['images']:,} images{corrupt}; {m['pixels']:,} pixels that are not void", ""]
    lines += [f"{text:30}{m[name]:8.4f}" for name, text in measures.items()]
    rows = [row for row in class_rows(evaluator) if not np.isnan(row[2])]
    if rows and len(rows) <= LISTED_CLASSES:
        head = f"{'':30}{'IoU':>8}{'accuracy':>10}{'precision':>11}{'pixels':>14}"
        lines += ["", head]
        lines += [f"{r[1][:29]:30}{r[2]:8.4f}{_text(r[3]):>10}{_text(r[4]):>11}{r[5]:14,}" for r in rows]
    return "\n".join(lines)


def _text(value):
    return "" if np.isnan(value) else f"{value:.4f}"


def class_rows(evaluator):
    """Returns a row of COLUMNS for each class of an evaluator with a result; NaN where undefined.

    Accuracy is the share of the class's pixels that are found, precision that of those predicted that are right.
    """
    counts, names = evaluator.confusion, evaluator.names
    right, pixels, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    columns = [evaluator.iou, confusion.shares(right, pixels), confusion.shares(right, predicted)]
    wrong = counts - np.diag(right)
    others = [names[row.argmax()] if row.any() else "" for row in wrong]
    measured = zip(*(column.tolist() for column in (*columns, pixels, predicted)), strict=True)
    return [(k, names[k], *values, others[k]) for k, values in enumerate(measured)]


def write_page(path, evaluator, rows, title):
    """Writes the page of all.

    Args:
      path: of the HTML file.
      evaluator: a `SegmentationEvaluator`, when it has its result.
      rows: its `class_rows`.
      title: what was evaluated, on what.
    """
    body = [f"<p>{html.escape(title)}</p><pre>{html.escape(evaluator.table())}</pre>"]
    body += ["<p>Its worst images: <a href=worst.html>worst.html</a>.</p>"]
    if evaluator.metrics["pixels"]:
        body += ["<h2>Confusion</h2>", confusion.picture(evaluator.confusion, evaluator.names, "pixels")]
        pairs = confusion.most_confused(evaluator.confusion, evaluator.names)
        head = ("class", "taken for", "pixels", "of its pixels")
        body += ["<h2>Most often confused</h2>", page.table(head, pairs)]
    body += ["<h2>All classes</h2><p>A click on a header sorts.</p>", page.table(COLUMNS, rows, sortable=True)]
    write_text(path, page.page("Evaluation of a segmentation", body))


def write_worst(path, evaluator, title):
    """Writes the page of the images with the lowest mean IoU over the classes in them: each, its truth, what was found.

    Args as of `write_page`.
    """
    iou, names = np.array(evaluator.image_iou), evaluator.image_names
    worst = [k for k in np.argsort(iou, kind="stable")[:SHOWN] if not np.isnan(iou[k])]
    images = evaluator.read_images([names[k] for k in worst]) if evaluator.read_images else {}
    body = [f"<p>{html.escape(title)}</p><p>The image, its truth, and what was found; of each the mean IoU over "
            "the classes that are in it or were found there.</p>"]  # fmt: skip
    body += [_legend(evaluator, images)]
    body += [_figure(evaluator, k, images.get(names[k])) for k in worst]
    write_text(path, page.page("The worst images of a segmentation", body))


def _legend(evaluator, images):
    """The classes in masks, each with its color, as HTML."""
    found = {int(k) & palette.VOID for _, *masks in images.values() for mask in masks for k in np.unique(mask)}
    parts = []
    for k in sorted(found):
        name = "void" if k == palette.VOID else dict(enumerate(evaluator.names)).get(k, f"no class ({k})")
        color = "#{:02x}{:02x}{:02x}".format(*palette.COLORS[k])
        parts.append(f"<span style='background: {color}'>&emsp;</span> {html.escape(name)}")
    return f"<p>{' &ensp; '.join(parts)}</p>"


def _figure(evaluator, k, shown):
    """An image beside its masks, if it is there, and a text below."""
    text = f"mean IoU {evaluator.image_iou[k]:.4f}"
    name = evaluator.image_names[k]
    if shown is None:
        return f"<p>{html.escape(text)} <small>{html.escape(name)}</small></p>"
    image, truth, prediction = shown
    iou = confusion.overlaps(confusion.count(truth, prediction, evaluator.class_num))
    text += ": " + ", ".join(f"{evaluator.names[c]} {iou[c]:.2f}" for c in np.flatnonzero(~np.isnan(iou)))
    parts = [(image, Image.Resampling.BILINEAR)]
    parts += [(palette.colors(mask), Image.Resampling.NEAREST) for mask in (truth, prediction)]
    scale = IMAGE_SIDE / max(image.shape[:2])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    drawn = [np.asarray(Image.fromarray(pixels).resize(size, resampling)) for pixels, resampling in parts]
    beside = np.pad(np.stack(drawn), ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(beside, axis=1)).save(buffer, "JPEG", quality=90, subsampling=0)
    return page.figure(buffer.getvalue(), f"{text} ({name})", "jpeg")
