"""The report on a multi-label network: a table of its metrics, one line a class, and AP against frequency."""

from matplotlib.figure import Figure
import numpy as np

from evaluation.ranking import chance_average_precision
from utils.files import atomic_write, write_text

# In the figure: standard deviation of the running mean's weights, as a factor of the frequency.
MEAN_WIDTH = 1.5


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
        f"{'':24}{'value':>10}{'by chance':>12}",
        f"{'mAP (macro)':24}{m['macro_map']:10.4f}{m['chance_map']:12.4f}",
        f"{'AP (micro)':24}{m['micro_ap']:10.4f}{m['chance_micro_ap']:12.4f}",
        f"{'AUC (macro)':24}{m['macro_auc']:10.4f}{0.5:12.4f}",
        f"{'AUC (micro)':24}{m['micro_auc']:10.4f}{0.5:12.4f}",
        "",
        f"{'':24}{'precision':>10}{'recall':>12}{'F1':>12}",
    ]
    for suffix, title in {"top_k": f"top {config.top_k_pred}", "threshold": f"p >= {config.threshold:g}"}.items():
        for prefix, kind in (("", "per image"), ("overall_", "overall")):
            precision, recall, f1 = (m[f"{prefix}{name}_{suffix}"] for name in ("precision", "recall", "f1"))
            rows.append(f"{f'{title}, {kind}':24}{precision:10.4f}{recall:12.4f}{f1:12.4f}")
    if "macro_map_error" in m:
        rows += ["", f"binned: mAP within {m['macro_map_error']:.2g}, micro AP within {m['micro_ap_error']:.2g}"]
    return "\n".join(rows)


def write_classes(path, classes, names, ap_mode):
    """Writes one line a class, in the order of the indices; a metric that is not defined is left empty.

    Args:
      path: of the file.
      classes: a `ranking.Ranking`.
      names: (WordNet id or "", names) of each class.
      ap_mode: in "binned" there is a column for the error of the AP.
    """
    columns = {"ap": classes.ap, "auc": classes.auc}
    if ap_mode == "binned":
        columns["ap_error"] = classes.ap_error
    lines = ["\t".join(["index", "wnid", "names", "positives", "known", *columns])]
    for k, (wnid, text) in enumerate(names):
        values = ["" if np.isnan(column[k]) else f"{column[k]:.6f}" for column in columns.values()]
        lines.append("\t".join([str(k), wnid, text, str(classes.positives[k]), str(classes.known[k]), *values]))
    write_text(path, "\n".join(lines) + "\n")


def draw(path, classes, metrics):
    """Draws AP against the number of positives of each class, with a running mean and the level of chance."""
    present = classes.positives > 0
    positives, ap = classes.positives[present], classes.ap[present]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(positives, ap, s=14, alpha=max(0.1, min(0.7, 60 / max(1, len(ap)))), linewidths=0, label="a class")
    if len(ap):
        x = np.geomspace(positives.min(), positives.max(), 100)
        # A mean over classes weighted by a bell curve over the logarithm of the frequency.
        weights = np.exp(-((np.log(x[:, None] / positives) / np.log(MEAN_WIDTH)) ** 2) / 2)
        axes.plot(x, weights @ ap / weights.sum(axis=1), color="tab:red", lw=2.5, label="running mean")
        chance = chance_average_precision(x, classes.known.max())
        axes.plot(x, chance, color="0.4", ls="--", label="scores at random")
        axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("images with the class (logarithmic)")
    axes.set_ylabel("average precision")
    axes.set_title(f"mAP {metrics['macro_map']:.3f} over {len(ap):,} classes, {metrics['images']:,} images")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", framealpha=0.9)
    with atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")
