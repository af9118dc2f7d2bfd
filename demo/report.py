"""The demo's report: one HTML file that needs no other."""

import base64
import csv
import html
import io
import json
import logging
import os
from typing import NamedTuple

from matplotlib.figure import Figure
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf

from data_processing.lists import dictionary

SHOWN_CLASSES = 12
SHOWN_QUERIES = 8
STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em; color: #222 }
h1, h2 { line-height: 1.15 } h2 { margin-top: 2em } table { border-collapse: collapse } small { color: #666 }
td, th { padding: 3px 12px 3px 0; text-align: left; vertical-align: top } td.n { text-align: right }
.bar { background: #4a7ebb; height: 14px } .hit { color: #16803c; font-weight: 600 } .miss { color: #777 }
.cards { display: flex; flex-wrap: wrap; gap: 18px } .card { width: 230px; font-size: 14px } .card img { height: 130px }
.row { display: flex; gap: 10px; align-items: center; margin: 8px 0 } .row img { height: 84px }
.row .query { border: 3px solid #4a7ebb } figure { margin: 1em 0 } figure img { max-width: 100% }
"""


class Results(NamedTuple):
    """What the demo found.

    Attributes:
      rows: rows of the validation list, in the order of images.txt.
      summary: mAP by the name of what reached it.
      transfer: the same for accuracies on the images of single things.
      neighbours: int [images, k], nearest others of each validation image.
      seconds: how long the demo took.
    """

    rows: list
    summary: dict
    transfer: dict
    neighbours: np.ndarray
    seconds: float


def write(out, dictionary_path, results):
    """Writes report.html into the demo's folder.

    Args:
      out: the folder, with log/, evaluation/, predictions.json and images.txt in it.
      dictionary_path: the class dictionary.
      results: the `Results`.
    """
    entries = dictionary.read(dictionary_path)
    drawn = set(range(len(entries))) - {entry.parent for entry in entries}
    paths = (out / "images.txt").read_text().splitlines()
    objects = [[first_name(entries[k].names) for k in row.labels if k in drawn] for row in results.rows]
    metrics = json.loads((out / "evaluation/metrics.json").read_text())["metrics"]
    predictions = json.loads((out / "predictions.json").read_text())
    with open(out / "evaluation/per_class.tsv", newline="", encoding="utf-8") as file:
        classes = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["ap"]]
    sections = [
        "<h1>A multi-label ResNet, from image lists to features</h1>",
        f"<p>Trained, evaluated and used in {results.seconds / 60:.1f} minutes by <code>make demo</code>: "
        f"{len(entries)} classes, of which {len(drawn)} are drawn and the others their WordNet ancestors.</p>",
        "<h2>Did it learn?</h2>",
        "<p>Mean average precision on the validation images:</p>",
        _bars(results.summary),
        _metrics(metrics),
        "<h2>Training</h2>",
        _figure(_curves(out / "log"), "Loss of the training batches, and mAP on the validation images."),
        "<h2>Classes</h2>",
        _classes(classes),
        _figure((out / "evaluation/ap_vs_frequency.png").read_bytes(), "Frequent classes are learnt first."),
        "<h2>Put to another use</h2>",
        "<p>Fine-tuned, or with a linear classifier on its features, to name the one thing in each of other images, "
        "after a few of each. Share of right answers:</p>",
        _bars(results.transfer),
        "<h2>What it sees</h2><p>The classes with the highest scores; <span class=hit>green</span> ones are right.</p>",
        _cards(predictions, results.rows, objects),
        "<h2>Nearest neighbours by feature</h2>",
        _neighbour_rows(paths, objects, drawn, results),
        "<p><small>Emoji designed by OpenMoji, openmoji.org, CC BY-SA 4.0. Classes: WordNet 3.0, Princeton University."
        "</small></p>",
    ]
    page = f"<!doctype html><meta charset=utf-8><title>Demo report</title><style>{STYLE}</style>" + "\n".join(sections)
    temp_path = out / ".report.html.part"
    temp_path.write_text(page, encoding="utf-8")
    os.replace(temp_path, out / "report.html")


def nearest(features, count=5):
    """Returns for each image the `count` others whose features point most nearly in its direction, int [n, count].

    Args:
      features: float32 [n, width].
    """
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = features @ features.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1)[:, :count]


def first_name(names):
    """Returns the first of the names of a class."""
    return names.split(",")[0]


def _data(data, kind="jpeg"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _image(path, css=""):
    with open(path, "rb") as file:
        return f'<img class="{css}" src="{_data(file.read())}">'


def _figure(png, caption):
    return f'<figure><img src="{_data(png, "png")}"><figcaption><small>{caption}</small></figcaption></figure>'


def _bars(values):
    """What the network reached, and what it must beat, by name, as bars."""
    longest = max(values.values())
    rows = (
        f"<tr><td>{name}<td class=n>{value:.3f}<td><div class=bar style='width:{400 * value / longest:.0f}px'></div>"
        for name, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _metrics(metrics):
    names = {
        "micro_ap": "AP over all classes together (micro)",
        "macro_auc": "area under the ROC curve (mean of the classes)",
        "precision_top_k": "precision of the first 5",
        "recall_top_k": "recall of the first 5",
        "f1_top_k": "F1 of the first 5",
    }
    rows = (f"<tr><td>{text}<td class=n>{metrics[name]:.3f}" for name, text in names.items())
    return f"<table>{''.join(rows)}</table>"


def _curves(log):
    """Draws loss and validation mAP over the steps from TensorBoard's files; returns a PNG."""
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it logs each end of a file
    events = EventAccumulator(str(log), size_guidance={"tensors": 0})
    events.Reload()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, tag, title in zip(
        figure.subplots(1, 2), ("train/loss", "val/macro_map"), ("loss", "mAP, validation"), strict=True
    ):
        logged = events.Tensors(tag) if tag in events.Tags()["tensors"] else []
        values = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in logged}
        axes.plot(list(values), list(values.values()), marker="o", ms=3)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _classes(classes):
    """Average precision of the best and the worst classes, side by side, and of all in a fold-out."""
    order = sorted(classes, key=lambda row: -float(row["ap"]))

    def table(rows):
        cells = (
            f"<tr><td>{html.escape(first_name(row['names']))}<td class=n>{float(row['ap']):.3f}"
            f"<td><div class=bar style='width:{150 * float(row['ap']):.0f}px'></div><td class=n>{row['positives']}"
            for row in rows
        )
        return f"<table><tr><th>class<th>AP<th><th>images{''.join(cells)}</table>"

    return (
        f"<div class=cards>{table(order[:SHOWN_CLASSES])}{table(order[-SHOWN_CLASSES:])}</div>"
        f"<details><summary>all {len(order)} classes</summary>{table(order)}</details>"
    )


def _cards(predictions, rows, objects):
    """Images with what is in them and the classes that were predicted."""
    cards = []
    for prediction, row, names in zip(predictions, rows, objects, strict=False):
        lines = (
            f"<span class={'hit' if named['index'] in row.labels else 'miss'}>{html.escape(first_name(named['name']))} "
            f"{named['score']:.2f}</span>"
            for named in prediction["classes"]
        )
        title = html.escape(", ".join(names))
        cards.append(f"<div class=card>{_image(prediction['image'])}<br><b>{title}</b><br>{', '.join(lines)}</div>")
    return f"<div class=cards>{''.join(cards)}</div>"


def _neighbour_rows(paths, objects, drawn, results):
    """A query and its neighbours in each row, and how often neighbours share an object, against any two images."""
    sets = [drawn.intersection(row.labels) for row in results.rows]
    neighbours = results.neighbours
    shared = np.mean([bool(sets[k] & sets[n]) for k in range(len(sets)) for n in neighbours[k]])
    others = np.random.default_rng(0).integers(0, len(sets), (len(sets), 20))
    chance = np.mean([bool(sets[k] & sets[n]) for k in range(len(sets)) for n in others[k] if n != k])
    html_rows = []
    for k in np.linspace(0, len(paths) - 1, SHOWN_QUERIES).astype(int):
        near = "".join(_image(paths[n]) for n in neighbours[k])
        html_rows.append(
            f"<div class=row>{_image(paths[k], 'query')}{near}<small>{', '.join(objects[k])}</small></div>"
        )
    return (
        f"<p>{shared:.0%} of the neighbours share an object with the image on their left; "
        f"of images drawn by lot {chance:.0%} do.</p>{''.join(html_rows)}"
    )
