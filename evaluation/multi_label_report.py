"""The report on a multi-label network: a table of its metrics, one line a class, figures, and a page of all."""

import html
from typing import NamedTuple

from evaluation import figures, page
from evaluation.curves import Curves
from evaluation.ranking import Ranking
from utils.files import atomic_write, write_text

# The classes of the highest and the lowest AP that the page shows first.
EXTREMES = 15
CAPTIONS = {
    "precision_recall": "Precision against recall: of all labels of all images, and the mean over the classes.",
    "f1_by_threshold": "F1 if each class is named from a probability on.",
    "calibration": "How often a class is there that has a probability, and how many probabilities there are.",
    "ap_vs_frequency": "Average precision of each class against the number of its images.",
}


class Found(NamedTuple):
    """What an evaluation found: metrics of `multi_label.MultiLabelEvaluator.result`, and what it has of each class."""

    metrics: dict
    classes: Ranking
    curves: Curves


def table(metrics, class_num, config, skipped=0):
    """Returns the metrics as text.

    Args:
      metrics: of `multi_label.MultiLabelEvaluator.result`.
      class_num: number of classes.
      config: the `multi_label.MultiLabelConfig`.
      skipped: number of corrupt records.
    """
    m = metrics
    corrupt = f", {skipped:,} corrupt left out" if skipped else ""
    rows = [
        f"{m['images']:,} images{corrupt}; {m['classes_with_positives']:,} of {class_num:,} classes have positives",
        "",
        f"{'':26}{'value':>10}{'by chance':>12}",
        f"{'mAP (macro)':26}{m['macro_map']:10.4f}{m['chance_map']:12.4f}",
        f"{'AP (micro)':26}{m['micro_ap']:10.4f}{m['chance_micro_ap']:12.4f}",
        f"{'AUC (macro)':26}{m['macro_auc']:10.4f}{0.5:12.4f}",
        f"{'AUC (micro)':26}{m['micro_auc']:10.4f}{0.5:12.4f}",
        "",
        f"{'':26}{'precision':>10}{'recall':>12}{'F1':>12}",
    ]
    for suffix, title in {"top_k": f"top {config.top_k_pred}", "threshold": f"p >= {config.threshold:g}"}.items():
        for prefix, kind in (("", "per image"), ("overall_", "overall")):
            precision, recall, f1 = (m[f"{prefix}{name}_{suffix}"] for name in ("precision", "recall", "f1"))
            rows.append(f"{f'{title}, {kind}':26}{precision:10.4f}{recall:12.4f}{f1:12.4f}")
    best = f"best p >= {m['best_threshold']:.3g}, overall"
    rows.append(f"{best:26}{m['best_precision']:10.4f}{m['best_recall']:12.4f}{m['best_f1']:12.4f}")
    rows += ["", f"{'calibration error':26}{m['calibration_error']:10.4f}"]
    if "macro_map_error" in m:
        rows += [f"binned: mAP within {m['macro_map_error']:.2g}, micro AP within {m['micro_ap_error']:.2g}"]
    return "\n".join(rows)


def class_rows(classes, names, ap_mode):
    """Returns the names of columns, and a row of them for each class; NaN where undefined.

    Args:
      classes: a `ranking.Ranking`.
      names: (WordNet id or "", names) of each class.
      ap_mode: in "binned" there is a column for the error of the AP.
    """
    measured = {"ap": classes.ap, "auc": classes.auc} | ({"ap_error": classes.ap_error} if ap_mode == "binned" else {})
    rows = [
        (k, wnid, text, classes.positives[k], classes.known[k], *(float(column[k]) for column in measured.values()))
        for k, (wnid, text) in enumerate(names)
    ]
    return ("index", "wnid", "names", "positives", "known", *measured), rows


def write_figures(folder, found):
    """Writes the figures of what was `Found` as PNGs into `folder`, a `Path`; returns their bytes by name."""
    drawn = {
        "precision_recall": figures.precision_recall(found.curves, found.metrics),
        "f1_by_threshold": figures.f1_by_threshold(found.curves, found.metrics),
        "calibration": figures.calibration(found.curves.calibration, "labels"),
        "ap_vs_frequency": figures.ap_by_frequency(found.classes, found.metrics),
    }
    for name, png in drawn.items():
        with atomic_write(folder / f"{name}.png") as temp_path:
            temp_path.write_bytes(png)
    return drawn


def write_page(path, found, names, title, sections):
    """Writes the page of all.

    Args:
      path: of the HTML file.
      found: what was `Found`.
      names: (WordNet id or "", names) of each class.
      title: what was evaluated, on what.
      sections: the text of `table`, and what `write_figures` returned.
    """
    text, drawn = sections
    columns = ("class", "index", "id", "images", "AP", "AUC", "best F1", "its threshold")
    figures_of_classes = (found.classes.ap, found.classes.auc, found.curves.class_f1, found.curves.class_threshold)
    rows = [
        (name or str(k), k, wnid, int(found.classes.positives[k]), *(float(column[k]) for column in figures_of_classes))
        for k, (wnid, name) in enumerate(names)
    ]
    ranked = sorted((row for row in rows if row[3]), key=lambda row: -row[4])
    shown = min(EXTREMES, (len(ranked) + 1) // 2)
    body = [f"<p>{html.escape(title)}</p><pre>{html.escape(text)}</pre>"]
    body += [page.figure(png, CAPTIONS[name]) for name, png in drawn.items()]
    body += [f"<h2>Best classes</h2>{page.table(columns, ranked[:shown])}"]
    body += [f"<h2>Worst classes</h2>{page.table(columns, ranked[: -shown - 1 : -1])}"]
    body += [f"<h2>All classes</h2><p>A click on a header sorts.</p>{page.table(columns, rows, sortable=True)}"]
    write_text(path, page.page("Evaluation of a multi-label network", body))
