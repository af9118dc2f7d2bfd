"""The report on a detector: a table of its metrics, one line a class, curves, and a page of its worst mistakes."""

import html
import io

import numpy as np
from PIL import Image

from evaluation import average_precision, drawing, figures, mistakes, page
from evaluation.mistakes import KINDS
from utils.files import write_text

COLUMNS = ("index", "class", "AP", "AP_area", "AP_coco", "best_F1", "threshold", "objects", "difficult", "detections")
# The table of text has a line for each of so many classes at most.
LISTED_CLASSES = 80
# Mistakes of each sort that the page shows, and the long side of their images, in pixels.
SHOWN, IMAGE_SIDE = 24, 420
WRONG_COLOR, OBJECT_COLOR = (230, 30, 30), (60, 220, 60)
MEANING = (
    "A detection is a duplicate where a surer one has the same object; localization is too little overlap with an "
    "object of the class (IoU from 0.1 on), confused such an overlap with an object of another class; the rest is on "
    "the background. All are counted from the score on that is best for the F1 of their class."
)


def table(evaluator, measures, skipped=0):
    """Returns the metrics of a `detection.DetectionEvaluator` as text; `measures` are texts by name of a metric."""
    m = evaluator.metrics
    corrupt = f", {skipped:,} corrupt left out" if skipped else ""
    counts = f"{m['objects']:,} objects, {m['difficult']:,} more that are difficult, {m['detections']:,} detections"
    lines = [f"{m['images']:,} images{corrupt}; {counts}", ""]
    lines += [f"{text:30}{m[name]:8.4f}" for name, text in measures.items()]
    rows = [row for row in class_rows(evaluator) if row[7]]
    if rows and len(rows) <= LISTED_CLASSES:
        head = f"{'':30}{'11 points':>10}{'area':>8}{'COCO':>8}{'objects':>9}{'detections':>12}"
        lines += ["", head, *(f"{r[1][:29]:30}{r[2]:10.4f}{r[3]:8.4f}{r[4]:8.4f}{r[7]:9}{r[9]:12}" for r in rows)]
    return "\n".join(lines)


def class_rows(evaluator):
    """Returns a row of COLUMNS for each class of an evaluator with a result; NaN where undefined."""
    count = evaluator.class_num
    difficult = np.bincount(evaluator.objects.label[evaluator.objects.difficult], minlength=count)
    detections = np.bincount(evaluator.detections.label, minlength=count)
    rows = []
    for k, curve in enumerate(evaluator.curves):
        f1, threshold = average_precision.best_f1(curve)
        measured = [float(column[k]) for column in (evaluator.ap, evaluator.ap_area, evaluator.coco.all)]
        threshold = threshold if np.isfinite(threshold) else np.nan
        counts = (curve.positives, int(difficult[k]), int(detections[k]))
        rows.append((k, evaluator.names[k], *measured, f1, threshold, *counts))
    return rows


def write_page(path, evaluator, rows, title):
    """Writes the page of all.

    Args:
      path: of the HTML file.
      evaluator: a `detection.DetectionEvaluator`, when it has its result.
      rows: its `class_rows`.
      title: what was evaluated, on what.
    """
    curves = [(name, ap, evaluator.curves[k]) for k, name, ap, *_ in rows if not np.isnan(ap)]
    body = [f"<p>{html.escape(title)}</p><pre>{html.escape(evaluator.table())}</pre>"]
    body += ["<p>Its worst mistakes: <a href=mistakes.html>mistakes.html</a>.</p>"]
    if curves:
        caption = "Precision against recall of each class, at IoU 0.5, and its AP by 11 points."
        body += [page.figure(figures.class_curves(curves), caption)]
    body += ["<h2>All classes</h2><p>A click on a header sorts.</p>", page.table(COLUMNS, rows, sortable=True)]
    write_text(path, page.page("Evaluation of a detector", body))


def write_mistakes(path, evaluator, title):
    """Writes the page of the worst mistakes: how many there are of which kind, the surest wrong and the largest missed.

    Args as of `write_page`.
    """
    objects, detections = evaluator.objects, evaluator.detections
    made = mistakes.find(objects, detections, evaluator.matches, evaluator.found, evaluator.curves)
    counts = made.counts(objects, detections)
    rows = [(evaluator.names[k], *counts[k].tolist()) for k in np.flatnonzero(counts.any(axis=1))]
    wrong, missed = made.wrong[:SHOWN], made.missed[:SHOWN]
    shown = np.concatenate([detections.image[wrong], objects.image[missed]])
    names = sorted({evaluator.image_names[k] for k in shown})
    images = evaluator.read_images(names) if evaluator.read_images else {}
    body = [f"<p>{html.escape(title)}</p><p>{html.escape(MEANING)}</p>"]
    body += [page.table(("class", *KINDS, "missed"), rows, sortable=True)]
    body += [f"<h2>The surest of {len(made.wrong):,} wrong detections</h2>"]
    body += [_wrong(evaluator, made, k, images) for k in range(len(wrong))]
    body += [f"<h2>The largest of {len(made.missed):,} missed objects</h2>"]
    body += [_missed(evaluator, made, k, images) for k in missed]
    write_text(path, page.page("The worst mistakes of a detector", body))


def _wrong(evaluator, made, k, images):
    """The k-th wrong detection as HTML: in red, and what it overlaps in green."""
    objects, detections, names = evaluator.objects, evaluator.detections, evaluator.names
    index, other = made.wrong[k], made.object[k]
    name = names[detections.label[index]]
    marks = [(detections.box[index], f"{name} {detections.score[index]:.2f}", WRONG_COLOR)]
    text = f"{name} {detections.score[index]:.4g}: {KINDS[made.kind[k]]}"
    if other >= 0:
        of = names[objects.label[other]] + (", difficult" if objects.difficult[other] else "")
        marks.append((objects.box[other], of, OBJECT_COLOR))
        text += f", IoU {made.overlap[k]:.2f} with {of}"
    return _figure(evaluator.image_names[detections.image[index]], marks, text, images)


def _missed(evaluator, made, index, images):
    """A missed object as HTML: in green, and in red the detection that counts and overlaps it most."""
    objects, detections, names = evaluator.objects, evaluator.detections, evaluator.names
    box, image, name = objects.box[index], objects.image[index], names[objects.label[index]]
    width, height = box[2:] - box[:2]
    marks = [(box, name, OBJECT_COLOR)]
    text = f"{name}, {width:.0f} × {height:.0f} pixels"
    there = np.flatnonzero((detections.image == image) & (detections.score >= made.threshold[detections.label]))
    overlap = average_precision.intersection_over_union(detections.box[there], np.tile(box, [len(there), 1]))
    if overlap.max(initial=0) >= mistakes.LEAST_OVERLAP:
        nearest = there[overlap.argmax()]
        label = f"{names[detections.label[nearest]]} {detections.score[nearest]:.2f}"
        marks.append((detections.box[nearest], label, WRONG_COLOR))
        text += f"; nearest: {label}, IoU {overlap.max():.2f}"
    return _figure(evaluator.image_names[image], marks, text, images)


def _figure(name, marks, text, images):
    """An image with `marks` (box, caption, color) in it, if it is there, and a text below."""
    if name not in images:
        return f"<p>{html.escape(text)} <small>{html.escape(name)}</small></p>"
    image = Image.fromarray(images[name])
    scale = IMAGE_SIDE / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    boxes, captions, colors = zip(*marks, strict=True)
    drawn = drawing.draw(np.asarray(image), np.array(boxes) * scale, captions, colors)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "JPEG", quality=85)
    return page.figure(buffer.getvalue(), f"{text} ({name})", "jpeg")
