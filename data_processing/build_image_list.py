"""Makes image lists: of a CSV of your own, of COCO, or of one or several large sources with one dictionary.

    python data_processing/build_image_list.py --csv=labels.csv --images=FOLDER --output_dir=lists

A CSV names its columns in the first line; one has the paths, relative to --images, and one the names of the classes
between `|`, each perhaps with a confidence, `dog|pizza:0.8`. With --one_hot each other column is a class. Writes
train.txt and val.txt, which hold every image, and dictionary_and_semantic_hierarchy.txt, the classes; with --dictionary
they are those of another one. --coco=instances_train2017.json does the same. See docs/own_data.md.

    python data_processing/build_image_list.py --imagenet=imagenet --open_images=images.csv \\
        --annotations=annotations-human.csv,annotations-machine.csv --output_dir=lists                    (counts)
    python data_processing/build_image_list.py --imagenet=imagenet --open_images=images.csv \\
        --annotations=annotations-human.csv,annotations-machine.csv --output_dir=lists \\
        --dictionary=vocabulary/dictionary_and_semantic_hierarchy.txt --decisions=vocabulary/decisions.tsv

Of large sources, without --dictionary, it only counts: counts.tsv has the images of each class of the sources, for
`build_dictionary.py --image_counts`. With it, train.txt and val.txt hold the images that have a class left, in the
order of the sources; --val_fraction of them, if it is set, are for validation, chosen by --random_seed and their paths
alone, as those of a CSV are.

Large sources, of which several may be given:
    --imagenet       folder of archives n02084071.tar or of folders n02084071/; paths are relative to it
    --lists          image lists with the classes of --list_dictionary, as ML-Images publishes them
    --open_images    Open Images' list of images, with --annotations
    --tfds           a dataset of TensorFlow Datasets; its images are written into --output_dir
"""

from collections import Counter
import contextlib
import itertools
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, config, run, script, use
from absl import flags

use("random_seed images CSV label_synsets")
flags.DEFINE_string("csv", "", "CSV of paths and labels.")
flags.DEFINE_string("coco", "", "Annotations of objects as COCO has them: instances_train2017.json.")
flags.DEFINE_enum(
    "hierarchy",
    "",
    ["", "wordnet"],
    "wordnet: names that are its nouns get their ancestors as classes.",
    allow_override=True,  # image_classification.py has another one
)
flags.DEFINE_string("imagenet", "", "ImageNet: folder of archives or folders, one a WordNet id.")
flags.DEFINE_list("lists", [], "Image lists whose classes are those of --list_dictionary.")
flags.DEFINE_string("list_dictionary", "", "Dictionary of --lists.")
flags.DEFINE_string("open_images", "", "Open Images: CSV of images and their URLs.")
flags.DEFINE_list("annotations", [], "Open Images: CSVs of labels.")
flags.DEFINE_float("min_confidence", 0.0, "Open Images: labels below are left out.", 0.0, 1.0)
flags.DEFINE_string("tfds", "", "TensorFlow Datasets: name of a dataset.")
flags.DEFINE_string("tfds_split", "train", "TensorFlow Datasets: split.")
flags.DEFINE_string("tfds_data_dir", None, "TensorFlow Datasets: folder of its prepared data.")
flags.DEFINE_string("tfds_manual_dir", None, "TensorFlow Datasets: folder of files that were fetched by hand.")
flags.DEFINE_string("decisions", "", "decisions.tsv of build_dictionary.py: which class an id of a source is.")
script(
    __name__,
    __doc__,
    first="csv coco images label_column separator one_hot val_fraction dictionary hierarchy",
    required="output_dir",
)

from tqdm import tqdm

from data_processing.images import archives
from data_processing.lists import dictionary, image_list, wordnet
from data_processing.sources import coco, csv_labels, labeled_images, multi_label, splits, wordnet_hierarchy
from data_processing.sources.table import report_lines
from utils.files import atomic_write, write_tsv

DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
LARGE = ("imagenet", "lists", "open_images", "tfds")


def main(argv):
    del argv
    output = Path(FLAGS.output_dir)
    if FLAGS.csv or FLAGS.coco:
        _list_own(output)
        return
    output.mkdir(parents=True, exist_ok=True)
    counts, unusable = Counter(), []
    rows = tqdm(_counted(_usable(_read_sources(output), unusable), counts), unit=" images", unit_scale=True)
    if FLAGS.dictionary:
        _write_lists(output, rows, _read_classes())
    else:
        for _ in rows:
            pass
    if not counts:
        raise ValueError("the sources have no labels; see --help for what they are")
    write_tsv(output / "counts.tsv", "# id\timages", counts.most_common())
    print(f"{counts.total():,} labels of {len(counts):,} classes of the sources: {output / 'counts.tsv'}")
    found = {
        "images left out, whose path or URL is empty, holds a tab or line end, or is not UTF-8": unusable,
        "damaged archives, whose other images are missing; fetch them again": archives.damaged(),
    }
    for line in report_lines({what: names for what, names in found.items() if names}):
        print(line)


def _list_own(output):
    """Writes the lists and the dictionary of --csv or --coco."""
    given = [f"--{name}" for name in ("csv", "coco", *LARGE) if FLAGS[name].value]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one of them")
    csv_config = config(csv_labels.CsvConfig)
    path = FLAGS.csv or FLAGS.coco
    table = csv_labels.read(path, csv_config) if FLAGS.csv else coco.read(path)
    if FLAGS.dictionary:
        entries = dictionary.read(FLAGS.dictionary)
    else:
        entries = multi_label.entries_of(table, FLAGS.class_order)
    if FLAGS.hierarchy:
        entries = _put_into_wordnet(output, entries, table)
    source = multi_label.to_source(table, entries, path, config(multi_label.Images))
    multi_label.report(source, table.notes)
    output.mkdir(parents=True, exist_ok=True)
    written = {"train": source.train, "val": source.val} | ({"test": source.test} if source.test else {})
    for split, rows in written.items():
        image_list.write(output / f"{split}.txt", rows)
    dictionary.write(output / DICTIONARY, entries)
    lists = ", ".join(f"{len(rows):,} images in {output / split}.txt" for split, rows in written.items())
    print(f"{lists}; {len(entries):,} classes in {output / DICTIONARY}")


def _put_into_wordnet(output, entries, table):
    """Returns the entries with those of their ancestors, and writes what a person should look at."""
    if FLAGS.dictionary:
        raise ValueError("--hierarchy makes a dictionary; leave --dictionary out")
    chosen = {}
    for where, name, fields in labeled_images.id_rows(FLAGS.label_synsets) if FLAGS.label_synsets else ():
        if len(fields) < 1:
            raise ValueError(f"{where}: no WordNet id behind '{name}'; write '-' for none")
        chosen[name] = fields[0]
    counts = multi_label.image_counts(table)
    entries, found, review = wordnet_hierarchy.add(wordnet.load(), entries, counts, chosen)
    table.notes.update(found)
    if review:
        output.mkdir(parents=True, exist_ok=True)
        write_tsv(output / "review.tsv", wordnet_hierarchy.REVIEW_COLUMNS, review)
        print(f"senses to choose from are in {output / 'review.tsv'}; give those chosen by --label_synsets")
    return entries


def _read_sources(output):
    """Yields `labeled_images.Labeled` of all sources that were given."""
    sources = []
    if FLAGS.imagenet:
        sources.append(labeled_images.imagenet(FLAGS.imagenet))
    if FLAGS.lists:
        if not FLAGS.list_dictionary:
            raise ValueError("--lists need --list_dictionary, which says what their classes are")
        entries = dictionary.read(FLAGS.list_dictionary)
        sources += [labeled_images.labeled_list(path, entries) for path in FLAGS.lists]
    if FLAGS.open_images:
        if not FLAGS.annotations:
            raise ValueError("--open_images needs --annotations, the CSVs of labels")
        sources.append(labeled_images.open_images(FLAGS.open_images, FLAGS.annotations, FLAGS.min_confidence))
    if FLAGS.tfds:
        # Only this source needs TensorFlow.
        from data_processing.sources import tfds_source

        sources.append(
            tfds_source.images(FLAGS.tfds, FLAGS.tfds_split, output, FLAGS.tfds_data_dir, FLAGS.tfds_manual_dir)
        )
    if not sources:
        raise ValueError("no source: give --csv, --coco, --imagenet, --lists, --open_images or --tfds")
    return itertools.chain(*sources)


def _usable(rows, unusable):
    """Yields the rows that an image list can hold.

    The paths of others, as Python writes them, go into `unusable`, after the line of the source where there is one.
    """
    for row in rows:
        if image_list.can_hold(row.path):
            yield row
        else:
            unusable.append(f"{row.where}: {ascii(row.path)}" if row.where else ascii(row.path))


def _counted(rows, counts):
    for row in rows:
        counts.update(label for label, confidence in row.labels.items() if confidence > 0)
        yield row


def _read_classes():
    """Returns {id in a source: index}."""
    entries = dictionary.read(FLAGS.dictionary)
    classes = {entry.wnid: entry.index for entry in entries}
    if FLAGS.decisions:
        for name, fields in labeled_images.id_lines(FLAGS.decisions).items():
            if name == "id":
                continue
            if len(fields) < 5:
                raise ValueError(f"{FLAGS.decisions}: {name}: too few fields; is this the file of build_dictionary.py?")
            _, _, _, index, wnid, *_ = fields
            if index:
                if not index.isdigit() or int(index) >= len(entries) or entries[int(index)].wnid != wnid:
                    raise ValueError(
                        f"{FLAGS.decisions}: {name} is class {index} ({wnid}), which {FLAGS.dictionary} does not have; "
                        "give the two files of one run"
                    )
                classes[name] = int(index)
            else:
                classes.pop(name, None)
    return classes


def _write_lists(output, rows, classes):
    """Writes train.txt and val.txt; images whose classes are all gone are left out, and counted."""
    written, left_out = Counter(), 0
    val_fraction = FLAGS.val_fraction if FLAGS["val_fraction"].present else 0.0
    with contextlib.ExitStack() as stack:
        parts = ("train", "val") if val_fraction else ("train",)
        paths = {split: stack.enter_context(atomic_write(output / f"{split}.txt")) for split in parts}
        opened = {
            split: stack.enter_context(open(path, "w", encoding="utf-8", newline="\n")) for split, path in paths.items()
        }
        for row in rows:
            labels = {}
            for name, confidence in row.labels.items():
                if (label := classes.get(name)) is not None:
                    labels[label] = max(confidence, labels.get(label, -1.0))
            if not any(confidence > 0 for confidence in labels.values()):
                left_out += 1
                continue
            split = "val" if splits.chosen(row.path, FLAGS.random_seed) < val_fraction else "train"
            labels = dict(sorted(labels.items()))
            kept = image_list.Row(row.path, tuple(labels), tuple(labels.values()))
            opened[split].write(image_list.format_row(kept, f"{output / split}.txt"))
            written[split] += 1
    lists = ", ".join(f"{written[split]:,} images in {output / split}.txt" for split in parts)
    print(f"{lists}; {left_out:,} images left out, which have no class of the dictionary")


if __name__ == "__main__":
    run(main)
