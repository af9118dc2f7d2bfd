"""What the study of pre-trainings writes: a table and a figure of means over seeds."""

from matplotlib.figure import Figure
import numpy as np

from utils.files import atomic_write, read_json, write_json, write_tsv

# What a network is put to, in the order of the table.
USES = {"finetuned": "fine-tuned", "probe": "probe"}


def keep_settings(path, settings):
    """Writes the settings of a study; ValueError if those of another are there, whose results would be taken for these.

    Args: path of the file; settings by name, as JSON has them.
    """
    if path.exists() and read_json(path) != settings:
        raise ValueError(f"{path} is of a study with other settings; give another --output_dir, or delete that one")
    write_json(path, settings)


def write(out, results, panels):
    """Writes table.tsv and figure.png into the folder `out`, and prints means and standard deviations.

    Args:
      out: the folder.
      results: {pre-training: {metric: a value for each seed, NaN where it has none}}, with the same metrics for each.
      panels: of the figure, {label of the axis: the metrics it shows}.
    """
    rows = []
    for name, metrics in results.items():
        fields = [name]
        for values in metrics.values():
            defined = not np.isnan(values).any()
            seeds = " ".join(f"{value:.4f}" for value in values)
            fields += [f"{np.mean(values):.4f}", f"{np.std(values, ddof=1):.4f}", seeds] if defined else [""] * 3
        rows.append(fields)
    titles = list(next(iter(results.values())))
    header = ["pre-training", *(f"{title}{end}" for title in titles for end in ("", ", standard deviation", ", seeds"))]
    write_tsv(out / "table.tsv", "\t".join(header), rows)
    width = max(26 if len(titles) < 4 else 18, 2 + max(map(len, titles)))
    print(f"\n{'pre-training':34}" + "".join(f"{title:>{width}}" for title in titles))
    for row in rows:
        cells = (f"{row[k]} ± {row[k + 1]}" if row[k] else "–" for k in range(1, len(row), 3))
        print(f"{row[0]:34}" + "".join(f"{cell:>{width}}" for cell in cells))
    _draw(out / "figure.png", results, panels)


def _draw(path, results, panels):
    """Draws the means as bars, and each seed as a dot."""
    figure = Figure(figsize=(3 + 5 * len(panels), 1.2 + 0.6 * len(results)), layout="constrained")
    [row] = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axes, (label, titles) in zip(row, panels.items(), strict=True):
        rows = len(results) - 1 - np.arange(len(results))
        thickness = 0.72 / len(titles)
        for k, title in enumerate(titles):
            places = rows + 0.36 - thickness * (k + 0.5)
            values = np.array([metrics[title] for metrics in results.values()])
            axes.barh(
                places, values.mean(axis=1), thickness - 0.02, xerr=values.std(axis=1, ddof=1), alpha=0.75, label=title
            )
            axes.plot(values, places[:, None].repeat(values.shape[1], 1), "k.", ms=5)
        axes.set_yticks(rows, list(results))
        axes.set(xlabel=label, xlim=(0, None))
        axes.grid(axis="x", alpha=0.3)
        axes.legend()
    with atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")
