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
import html
import json
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, checked
from absl import app, flags
from matplotlib.figure import Figure
import numpy as np

from data_processing.lists import dictionary, image_list
from utils.chunks import map_chunks
from utils.files import atomic_write, write_json, write_text, write_tsv

flags.DEFINE_list("image_lists", None, "Image lists, between commas.")
flags.DEFINE_integer("trainable", 100, "A class with more images than this is trainable (paper: 100).", lower_bound=0)
flags.DEFINE_string("compare", "", "--output_dir of another database, to say what is different.")

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
    _draw(output, images, per_image)
    write_text(output / "hierarchy.html", page(entries, images, summary))
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
        for number, found, labels, tenths, wrong in map_chunks(_count_piece, path, (class_num,)):
            if wrong:
                where = f"{path}:{before + wrong[0]}"
                image_list.parse_line(image_list.decode_line(wrong[1], where), class_num, where)
            images += found
            per_image.update(labels)
            confidences += tenths
            before += number
    if not images.any():
        raise ValueError(f"{', '.join(paths)}: no labels; nothing to describe")
    return images, per_image, confidences


def _count_piece(lines, class_num):
    """Counts as `count` does; returns their number of lines before it, and the first wrong one with its number."""
    labels, values, per_image, number = [], [], Counter(), 0
    for number, line in enumerate(lines, start=1):
        try:
            text = image_list.decode_line(line, "")
            if not text:
                continue
            row = image_list.parse_line(text, class_num, "")
        except image_list.ImageListError:
            return number, 0, {}, 0, (number, line)
        known = [label for label, value in zip(row.labels, row.confidences, strict=True) if value > 0]
        labels += known
        values += row.confidences
        per_image[len(known)] += 1
    values = np.array(values)
    tenths = np.ceil(values[values > 0] * 10 - 1e-9).astype(np.int64) - 1
    found = np.bincount(labels, minlength=class_num)
    return number, found, per_image, np.append(np.bincount(tenths, minlength=10), np.sum(values < 0)), None


def summarize(entries, images, per_image, confidences, trainable):
    """Returns the numbers of a database, as JSON takes them."""
    ancestors = dictionary.ancestors(entries)
    depths = np.array([len(chain) for chain in ancestors])
    leaves = len(entries) - len({entry.parent for entry in entries} - {-1})
    roots = Counter(chain[-1] if chain else k for k, chain in enumerate(ancestors))
    total = sum(per_image.values())
    present = images[images > 0]
    return {
        "images": total,
        "classes": len(entries),
        "classes with images": int(len(present)),
        "trainable": int(np.sum(images > trainable)),
        "trainable above": trainable,
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
    below = Counter(ancestor for chain in ancestors for ancestor in chain)
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


def _draw(output, images, per_image):
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    ranked = np.sort(images[images > 0])[::-1]
    axes.fill_between(np.arange(1, len(ranked) + 1), ranked, step="mid", alpha=0.6)
    axes.set_yscale("log")
    axes.axhline(FLAGS.trainable, color="0.4", ls="--", lw=1)
    axes.set_xlabel("classes, those with the most images first")
    axes.set_ylabel("images (logarithmic)")
    axes.set_title(f"Images per class: {np.sum(images > FLAGS.trainable):,} classes above {FLAGS.trainable:,}")
    axes.grid(alpha=0.3)
    with atomic_write(output / "images_per_class.png") as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    numbers = sorted(per_image)
    axes.bar(numbers, [per_image[k] for k in numbers], width=0.9)
    mean = sum(k * n for k, n in per_image.items()) / sum(per_image.values())
    axes.axvline(mean, color="tab:red", lw=1.5)
    axes.set_xlabel("labels")
    axes.set_ylabel("images")
    axes.set_title(f"Labels per image: {mean:.2f} on average")
    axes.grid(alpha=0.3)
    with atomic_write(output / "labels_per_image.png") as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")


PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Hierarchy</title>
<style>body{{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}}
details,.leaf{{margin-left:1.3em}}summary{{margin-left:-1.1em;cursor:pointer}}
small{{color:#666}}b{{font-weight:600}}.hit>summary b,.leaf.hit b{{background:#fe6}}input{{font:inherit;width:20em}}
td{{padding:0 1em 0 0}}td:last-child{{text-align:right}}</style>
<h1>{images:,} images, {classes:,} classes</h1><table>{rows}</table>
<p><input id="q" placeholder="a name or WordNet id" autofocus> <small id="n"></small></p>{trees}
<script>
const all=[...document.querySelectorAll("details,.leaf")];
document.getElementById("q").oninput=e=>{{const q=e.target.value.toLowerCase();let n=0;
for(const d of all){{const hit=q.length>1&&d.dataset.n.includes(q);d.classList.toggle("hit",hit);
if(d.tagName=="DETAILS")d.open=false;if(hit)n++}}
if(q.length>1)for(const d of all)if(d.classList.contains("hit"))
for(let p=d.parentElement.closest("details");p;p=p.parentElement.closest("details"))p.open=true;
document.getElementById("n").textContent=q.length>1?n+" classes":""}};
</script></html>
"""


def page(entries, images, summary):
    """Returns an HTML page, which needs no other file, of the trees: names, images and classes below."""
    children = [[] for _ in entries]
    for entry in entries:
        if entry.parent != -1:
            children[entry.parent].append(entry.index)
    below = [row[-1] for row in class_rows(entries, images)]
    trees, ahead = [], [(entry.index, False) for entry in reversed(entries) if entry.parent == -1]
    while ahead:
        k, done = ahead.pop()
        if done:
            trees.append("</details>")
            continue
        names, wnid = html.escape(entries[k].names), html.escape(entries[k].wnid)
        told = f"<b>{names}</b> <small>{wnid} · {images[k]:,} images"
        search = f'data-n="{names.lower()} {wnid}"'
        if not children[k]:
            trees.append(f'<div class="leaf" {search}>{told}</small></div>')
            continue
        trees.append(f"<details {search}><summary>{told} · {below[k]:,} classes below</small></summary>")
        ahead.append((k, True))
        ahead += [(child, False) for child in sorted(children[k], key=lambda child: images[child])]
    rows = {
        "labels an image": f"{summary['labels per image']:.2f}",
        f"classes with more than {summary['trainable above']:,} images": f"{summary['trainable']:,}",
        "trees": len(summary["trees"]),
        "depth, at most and on average": f"{summary['depth']['most']} and {summary['depth']['mean']:.2f}",
        "leaves": f"{summary['leaves']:,}",
    }
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
    return PAGE.format(images=summary["images"], classes=summary["classes"], rows=table, trees="".join(trees))


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
    found = []
    for wnid in sorted(before.keys() | after.keys()):
        old, new = before.get(wnid), after.get(wnid)
        what = "came" if old is None else "went" if new is None else "moved" if old[2] != new[2] else "images"
        if what == "images" and old[4] == new[4]:
            continue
        none = [""] * 5
        old_fields, new_fields = old or none, new or none
        found.append((what, wnid, (new or old)[3], old_fields[2], new_fields[2], old_fields[4], new_fields[4]))
    write_tsv(output / "diff.tsv", "what\twnid\tnames\tparent before\tparent\timages before\timages", found)
    kinds = Counter(row[0] for row in found)
    now = json.loads((output / "statistics.json").read_text())
    print(
        f"against {other}: {now['images'] - images_before:+,} images, {kinds['came']:,} classes came, "
        f"{kinds['went']:,} went, {kinds['moved']:,} have another parent, {kinds['images']:,} other numbers of images"
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["image_lists", "output_dir"])
    app.run(checked(main))
