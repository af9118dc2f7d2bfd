"""Describes a database, an image list and its dictionary: the paper's numbers, two figures, and a page to browse.

    python data_processing/statistics.py --image_lists=train_augmented.txt \\
        --dictionary=dictionary_and_semantic_hierarchy.txt --output_dir=statistics

Writes into --output_dir:
    statistics.json     images, classes, trainable ones (more than --trainable images), labels an image, trees, depths
    classes.tsv         each class with its images, its depth, and the classes below it
    images_per_class.png, labels_per_image.png
    hierarchy.html      the trees to unfold and search, with counts; needs no other file
With --compare=OTHER, the --output_dir of another database, also diff.tsv: classes that came, went, moved to another
parent or changed their number of images.

All cores count chunks of the lists, and memory does not grow with them.
"""

from collections import Counter
import json
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_list("image_lists", None, "Image lists, between commas.")
flags.DEFINE_integer("trainable", 100, "A class with more images than this is trainable (paper: 100).", lower_bound=0)
flags.DEFINE_string("compare", "", "--output_dir of another database, to say what is different.")
script(__name__, __doc__, first="dictionary trainable compare", required="image_lists output_dir")

from matplotlib.figure import Figure
import numpy as np

from data_processing.lists import dictionary, image_list
from data_processing.lists.hierarchy_page import page
from utils.chunks import map_chunks
from utils.files import atomic_write, write_json, write_text, write_tsv

COLUMNS = "index\twnid\tparent wnid\tnames\timages\tdepth\tclasses below"


def main(argv):
    del argv
    if not FLAGS.dictionary:
        raise ValueError("give --dictionary, that of the lists' classes")
    entries = dictionary.read(FLAGS.dictionary)
    images, per_image, confidences = count(FLAGS.image_lists, len(entries))
    summary = summarize(entries, images, per_image, confidences, FLAGS.trainable)
    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "statistics.json", summary)
    rows = class_rows(entries, images)
    write_tsv(output / "classes.tsv", COLUMNS, rows)
    draw_images_per_class(output / "images_per_class.png", images, FLAGS.trainable)
    draw_labels_per_image(output / "labels_per_image.png", per_image)
    write_text(output / "hierarchy.html", page(entries, images, [row[-1] for row in rows], summary))
    _report(summary)
    if FLAGS.compare:
        _write_difference(Path(FLAGS.compare), output, rows)
    print(f"written into {output}")


def count(paths, class_num):
    """Counts the labels of image lists.

    Returns:
      images of each class, int64 [class_num]; {labels of an image: images}; and labels by confidence: int64 [10] in
      tenths, (0, 0.1] to (0.9, 1], and after them the unknown ones, int64 [11] in all.
    """
    images, per_image, confidences = np.zeros(class_num, np.int64), Counter(), np.zeros(11, np.int64)
    for path in paths:
        before = 0
        for number, of_classes, labels, tenths, wrong in map_chunks(_count_chunk, path, (class_num,)):
            if wrong:
                where = f"{path}:{before + wrong[0]}"
                image_list.parse_line(image_list.decode_line(wrong[1], where), class_num, where, require_labels=False)
            images += of_classes
            per_image.update(labels)
            confidences += tenths
            before += number
    if not images.any():
        raise ValueError(f"{', '.join(paths)}: no labels; nothing to describe")
    return images, per_image, confidences


def _count_chunk(lines, class_num):
    """Returns the number of lines of a chunk, what `count` returns of them, and the first wrong one with its number."""
    labels, values, per_image, number = [], [], Counter(), 0
    for number, line in enumerate(lines, start=1):
        try:
            text = image_list.decode_line(line, "")
            if not text:
                continue
            row = image_list.parse_line(text, class_num, "", require_labels=False)
        except image_list.ImageListError:
            return number, 0, {}, 0, (number, line)
        known = [label for label, value in zip(row.labels, row.confidences, strict=True) if value > 0]
        labels += known
        values += row.confidences
        per_image[len(known)] += 1
    values = np.array(values)
    tenths = np.ceil(values[values > 0] * 10 - 1e-9).astype(np.int64) - 1
    images = np.bincount(np.array(labels, np.int64), minlength=class_num)
    return number, images, per_image, np.append(np.bincount(tenths, minlength=10), np.sum(values < 0)), None


def summarize(entries, images, per_image, confidences, trainable):
    """Returns the numbers of a database, as JSON takes them."""
    ancestors = dictionary.ancestors(entries)
    depths = np.array([len(above) for above in ancestors])
    leaves = len(entries) - len({entry.parent for entry in entries} - {-1})
    roots = Counter(above[-1] if above else k for k, above in enumerate(ancestors))
    total = sum(per_image.values())
    present = images[images > 0]
    return {
        "images": total,
        "classes": len(entries),
        "classes with images": int(len(present)),
        "trainable": int(np.sum(images > trainable)),
        "trainable above": trainable,
        "images without known labels": per_image[0],
        "labels": int(images.sum()),
        "labels per image": images.sum() / total,
        "images per class": {
            "least": int(present.min()),
            "median": float(np.median(present)),
            "mean": float(present.mean()),
            "most": int(present.max()),
        },
        "trees": [
            {"names": entries[root].names, "classes": size, "images": int(images[root])}
            for root, size in roots.most_common()
        ],
        "depth": {"most": int(depths.max()), "mean": float(depths.mean())},
        "classes by depth": np.bincount(depths).tolist(),
        "leaves": leaves,
        "images by number of labels": {str(k): per_image[k] for k in sorted(per_image)},
        "labels by confidence": {
            **{f"({k / 10:.1f}, {k / 10 + 0.1:.1f}]": int(confidences[k]) for k in range(10)},
            "unknown": int(confidences[10]),
        },
    }


def class_rows(entries, images):
    """Returns the rows of classes.tsv."""
    ancestors = dictionary.ancestors(entries)
    below = Counter(ancestor for above in ancestors for ancestor in above)
    return [
        (e.index, e.wnid, entries[e.parent].wnid if e.parent != -1 else "-", e.names)
        + (int(images[e.index]), len(ancestors[e.index]), below[e.index])
        for e in entries
    ]


def _report(summary):
    per_class, depth = summary["images per class"], summary["depth"]
    print(
        f"{summary['images']:,} images, {summary['classes']:,} classes, {summary['trainable']:,} of them with more "
        f"than {summary['trainable above']:,} images\n"
        f"{summary['labels per image']:.2f} labels an image; images a class: {per_class['least']:,} to "
        f"{per_class['most']:,}, median {per_class['median']:,.0f}\n"
        f"{len(summary['trees'])} trees, depth {depth['most']} at most and {depth['mean']:.2f} on average, "
        f"{summary['leaves']:,} leaves"
    )
    if summary["images without known labels"]:
        print(f"{summary['images without known labels']:,} images without labels, or with unknown ones only")


def draw_images_per_class(path, images, trainable):
    """Draws the number of images of each class, those with the most first, and the line that makes one trainable."""
    figure, axes = _figure()
    ranked = np.sort(images[images > 0])[::-1]
    axes.fill_between(np.arange(1, len(ranked) + 1), ranked, step="mid", alpha=0.6)
    axes.set_yscale("log")
    axes.axhline(trainable, color="0.4", ls="--", lw=1)
    axes.set_xlabel("classes, those with the most images first")
    axes.set_ylabel("images (logarithmic)")
    axes.set_title(f"Images per class: {np.sum(images > trainable):,} classes above {trainable:,}")
    _save(figure, path)


def draw_labels_per_image(path, per_image):
    """Draws how many images have how many labels; `per_image` as of `count`."""
    figure, axes = _figure()
    numbers = sorted(per_image)
    axes.bar(numbers, [per_image[k] for k in numbers], width=0.9)
    mean = sum(k * n for k, n in per_image.items()) / sum(per_image.values())
    axes.axvline(mean, color="tab:red", lw=1.5)
    axes.set_xlabel("labels")
    axes.set_ylabel("images")
    axes.set_title(f"Labels per image: {mean:.2f} on average")
    _save(figure, path)


def _figure():
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    return figure, figure.subplots()


def _save(figure, path):
    figure.axes[0].grid(alpha=0.3)
    with atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")


def _read(other):
    """Returns the number of images in an --output_dir of this script, and {WordNet id: fields of classes.tsv}."""
    path = other / "statistics.json"
    try:
        images = int(json.loads(path.read_text(encoding="utf-8"))["images"])
        path = other / "classes.tsv"
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        if any(len(fields) != len(COLUMNS.split("\t")) for fields in rows):
            raise ValueError("too few fields in a line")
    except OSError as error:
        raise ValueError(f"--compare={other} is no --output_dir of statistics.py: {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); make it anew with statistics.py") from error
    return images, {fields[1]: fields for fields in rows}


def _write_difference(other, output, rows):
    """Writes diff.tsv, by WordNet ids, and says what it holds."""
    images_before, before = _read(other)
    after = {row[1]: [str(field) for field in row] for row in rows}
    changes = []
    for wnid in sorted(before.keys() | after.keys()):
        old, new = before.get(wnid), after.get(wnid)
        what = "came" if old is None else "went" if new is None else "moved" if old[2] != new[2] else "images"
        if what == "images" and old[4] == new[4]:
            continue
        none = [""] * 5
        old_fields, new_fields = old or none, new or none
        changes.append((what, wnid, (new or old)[3], old_fields[2], new_fields[2], old_fields[4], new_fields[4]))
    write_tsv(output / "diff.tsv", "what\twnid\tnames\tparent before\tparent\timages before\timages", changes)
    kinds = Counter(row[0] for row in changes)
    now = json.loads((output / "statistics.json").read_text())
    print(
        f"against {other}: {now['images'] - images_before:+,} images, {kinds['came']:,} classes came, "
        f"{kinds['went']:,} went, {kinds['moved']:,} have another parent, {kinds['images']:,} other numbers of images"
    )


if __name__ == "__main__":
    run(main)
