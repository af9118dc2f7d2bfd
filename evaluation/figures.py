"""The figures of the reports, each as the bytes of a PNG."""

import io

from matplotlib.figure import Figure
import numpy as np

from evaluation import curves
from evaluation.ranking import chance_average_precision

# In the figure of AP against frequency: standard deviation of the running mean's weights, as a factor of the frequency.
MEAN_WIDTH = 1.5
# Of a curve's points so many are drawn at most.
POINTS = 2000
# Curves of single classes: so many beside each other, and at most.
CURVE_COLUMNS, MOST_CURVES = 5, 100


def precision_recall(found, metrics):
    """Returns the precision-recall curve of all pairs, the mean over classes, and where half of the classes lie.

    Args:
      found: `curves.Curves`.
      metrics: of `multi_label.MultiLabelEvaluator.result`.
    """
    figure, axes = _axes("recall", "precision", "Precision and recall")
    _draw_f1_levels(axes)
    if len(found.precisions):
        low, high = np.quantile(found.precisions, [0.25, 0.75], axis=0)
        axes.fill_between(curves.RECALLS, low, high, color="tab:orange", alpha=0.2, lw=0, label="half of the classes")
        label = f"mean over classes, mAP {metrics['macro_map']:.3f}"
        axes.plot(curves.RECALLS, found.precisions.mean(axis=0), color="tab:orange", lw=2, label=label)
        recall, precision = found.micro.recall, found.micro.precision
        shown = _thin(recall, np.append(found.micro.recall[:-1] > 0, False))
        label = f"all labels, AP {metrics['micro_ap']:.3f}"
        axes.plot(recall[shown], precision[shown], color="tab:blue", lw=2, label=label)
        label = f"best F1 {metrics['best_f1']:.3f}, p >= {metrics['best_threshold']:.3g}"
        axes.plot(metrics["best_recall"], metrics["best_precision"], "o", color="black", label=label)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return _png(figure)


def f1_by_threshold(found, metrics):
    """Returns F1 of all labels, precision and recall that make it, and the mean F1 of the classes, by threshold.

    Arguments as of `precision_recall`.
    """
    figure, axes = _axes("probability from which on a class is named", "", "F1 by threshold")
    if len(found.precisions):
        micro = found.micro
        shown = _thin(micro.threshold, np.ones(len(micro.threshold), bool))
        for values, style, label in ((micro.precision, "--", "precision"), (micro.recall, ":", "recall")):
            axes.plot(micro.threshold[shown], values[shown], color="0.4", lw=1, ls=style, label=f"{label}, all labels")
        axes.plot(micro.threshold[shown], micro.f1[shown], color="tab:blue", lw=2, label="F1, all labels (micro)")
        label = "F1, mean over classes (macro)"
        axes.plot(found.class_thresholds, found.macro_f1, color="tab:orange", lw=2, label=label)
        for name, color in (("best", "tab:blue"), ("best_macro", "tab:orange")):
            threshold, f1 = metrics[f"{name}_threshold"], metrics[f"{name}_f1"]
            axes.plot(threshold, f1, "o", color=color, label=f"best {f1:.3f}, p >= {threshold:.3g}")
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return _png(figure)


def calibration(found, what):
    """Returns a reliability diagram, with a histogram of the probabilities below.

    Args:
      found: `curves.Calibration`.
      what: what the probabilities are of, in the plural.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = np.linspace(0, 1, len(found.count) + 1)
    middles, width = (edges[1:] + edges[:-1]) / 2, edges[1]
    shares = np.nan_to_num(found.share)
    upper.bar(middles, shares, width, color="tab:blue", alpha=0.35, label=f"share of {what}, by bin")
    upper.plot(found.confidence, found.share, "o-", color="tab:blue", label="share against mean probability")
    upper.plot([0, 1], [0, 1], color="0.4", ls="--", label="perfectly calibrated")
    upper.set(ylim=(-0.02, 1.02), xlim=(0, 1), ylabel="share that came true")
    upper.set_title(f"Calibration: expected calibration error {found.error:.3f}")
    upper.legend(loc="upper left", framealpha=0.9)
    lower.bar(middles, found.count, width, color="tab:blue", alpha=0.7)
    lower.set(xlabel="probability", ylabel="how many")
    lower.set_yscale("log")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return _png(figure)


def ap_by_frequency(classes, metrics):
    """Returns AP against the number of positives of each class, with a running mean and the level of chance.

    Args:
      classes: a `ranking.Ranking`.
      metrics: of `multi_label.MultiLabelEvaluator.result`.
    """
    present = classes.positives > 0
    positives, ap = classes.positives[present], classes.ap[present]
    title = f"mAP {metrics['macro_map']:.3f} over {len(ap):,} classes, {metrics['images']:,} images"
    figure, axes = _axes("images with the class (logarithmic)", "average precision", title)
    axes.scatter(positives, ap, s=14, alpha=max(0.1, min(0.7, 60 / max(1, len(ap)))), linewidths=0, label="a class")
    if len(ap):
        x = np.geomspace(positives.min(), positives.max(), 100)
        # A mean over classes weighted by a bell curve over the logarithm of the frequency.
        weights = np.exp(-((np.log(x[:, None] / positives) / np.log(MEAN_WIDTH)) ** 2) / 2)
        axes.plot(x, weights @ ap / weights.sum(axis=1), color="tab:red", lw=2.5, label="running mean")
        chance = chance_average_precision(x, classes.known.max())
        axes.plot(x, chance, color="0.4", ls="--", label="scores at random")
        axes.set_xscale("log")
    axes.legend(loc="upper left", framealpha=0.9)
    return _png(figure)


def risk_coverage(risk, area):
    """Returns the share of wrong answers if only the surest ones are given; arguments of `curves.risk_coverage`."""
    title = f"Risk and coverage: mean risk {area:.3f}"
    figure, axes = _axes("coverage: share of the images, the surest ones, that are answered", "risk: wrong", title)
    coverage = np.arange(1, len(risk) + 1) / len(risk)
    shown = _thin(coverage, np.ones(len(risk), bool))
    axes.plot(coverage[shown], risk[shown], color="tab:blue", lw=2)
    return _png(figure)


def class_curves(classes):
    """Returns the precision-recall curves of detectors' classes, each beside the others, of the lowest AP if too many.

    Args:
      classes: (name, AP, `average_precision.Curve`) of each.
    """
    lowest = sorted(range(len(classes)), key=lambda k: classes[k][1])[:MOST_CURVES]
    rows = -(-len(lowest) // CURVE_COLUMNS)
    figure = Figure(figsize=(10, 0.6 + 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, CURVE_COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for k, one in zip(sorted(lowest), axes, strict=False):
        name, ap, curve = classes[k]
        shown = _thin(curve.recall, np.diff(curve.recall, prepend=0) > 0)  # the right ones
        one.plot(curve.recall[shown], curve.precision[shown], color="tab:blue", lw=1.5)
        one.set_title(f"{name[:20]} {ap:.3f}", fontsize=9)
        one.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        one.grid(alpha=0.3)
    for one in axes[len(lowest) :]:
        one.set_visible(False)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return _png(figure)


def _axes(x, y, title):
    """A figure with one pair of axes, from 0 to 1 upwards."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, title=title, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def _draw_f1_levels(axes):
    """Lines of equal F1, between 0 and 1 of recall."""
    axes.set_xlim(-0.02, 1.02)
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.geomspace(f1 / (2 - f1), 1, 100)
        precision = f1 * recall / (2 * recall - f1)
        axes.plot(recall, precision, color="0.8", lw=0.8)
        axes.annotate(f"F1 {f1}", (1, precision[-1]), fontsize=7, color="0.5", ha="right", va="bottom")


def _thin(x, usable):
    """Indices of at most some POINTS of the usable ones, evenly over the range of `x`, which rises or falls."""
    chosen = np.flatnonzero(usable)
    if len(chosen) <= POINTS:
        return chosen
    slots = np.floor((x[chosen] - x[chosen].min()) / np.ptp(x[chosen]) * POINTS)
    return chosen[np.flatnonzero(np.diff(slots, prepend=np.nan) != 0)]


def _png(figure):
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    return data.getvalue()
