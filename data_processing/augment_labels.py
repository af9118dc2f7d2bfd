"""Adds to each image of an image list what its labels imply: ancestors, and classes that co-occur.

    python data_processing/augment_labels.py --image_list=train.txt \\
        --dictionary=dictionary_and_semantic_hierarchy.txt --pairs=cooccurrence/pairs.tsv --output=train_augmented.txt

A class that is added has the highest confidence of those that imply it; a lower one that is there is raised. Labels
come out in the order of their indices, each once; rows stay in their order, and without labels if they have none. The
output, closed, comes out as it is when it goes in again. --check writes nothing, counts what is not as it should be,
and ends with status 1 if anything is.

All cores work on chunks of the list, and memory does not grow with it.
"""

from collections import Counter
import os
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_string("pairs", "", "Co-occurring classes, pairs.tsv of cooccurrence.py; default: ancestors only.")
flags.DEFINE_string("output", "", "List to write; needed without --check.")
flags.DEFINE_bool("check", False, "Write nothing; count what is not closed, unknown or wrong.")
script(__name__, __doc__, first="dictionary output pairs check", required="image_list")

from data_processing.lists import closure, dictionary, image_list
from utils.chunks import map_chunks
from utils.files import atomic_write

SHOWN = 5
UNLABELED = "rows without labels"
FAULTS = (
    *closure.COUNTED[3:],
    "rows with an unknown class",
    "rows that are wrong otherwise",
)


def main(argv):
    del argv
    if not (FLAGS.dictionary and (FLAGS.check or FLAGS.output)):
        raise ValueError("give --dictionary, and --output or --check")
    entries = dictionary.read(FLAGS.dictionary)
    pairs = closure.read_pairs(FLAGS.pairs, entries) if FLAGS.pairs else []
    if FLAGS.check:
        _check(FLAGS.image_list, entries, pairs)
        return
    if Path(FLAGS.output).exists() and os.path.samefile(FLAGS.output, FLAGS.image_list):
        raise ValueError(f"--output={FLAGS.output} is the list itself; give another name")
    counts = Counter()
    with atomic_write(FLAGS.output) as temp_path, open(temp_path, "wb") as file:
        for text, counted, wrong in augmented(FLAGS.image_list, entries, pairs):
            for number, line in wrong:
                raise image_list.ImageListError(_fault(line, f"{FLAGS.image_list}:{number}", len(entries)))
            file.write(text)
            counts += counted
    print(_summary(counts, len(pairs)))
    print(f"written: {FLAGS.output}")


def _summary(counts, pairs):
    rows, before, after = counts["rows"], counts["labels"], counts["labels"] + counts["labels added"]
    per_row = f"; {before / rows:.2f} labels an image before, {after / rows:.2f} now" if rows else ""
    unlabeled = f", {counts[UNLABELED]:,} without labels" if counts[UNLABELED] else ""
    closed = f"{counts['rows not closed']:,} were not closed"
    return f"{rows:,} rows{unlabeled}, {closed}{per_row} ({pairs:,} co-occurring pairs)"


def _check(path, entries, pairs):
    """Prints what is not as it should be; ValueError if anything is not."""
    counts, shown = Counter(), []
    for _, counted, wrong in augmented(path, entries, pairs):
        counts += counted
        shown += [_fault(line, f"{path}:{number}", len(entries)) for number, line in wrong[: SHOWN - len(shown)]]
    faults = {name: counts[name] for name in FAULTS}
    for name, count in {"rows": counts["rows"], UNLABELED: counts[UNLABELED], **faults}.items():
        print(f"{count:>12,}  {name}")
    for line in shown:
        print(line)
    if any(faults.values()):
        raise ValueError(f"{path} is not as it should be; augment_labels.py without --check closes it")


def _fault(line, where, class_num):
    """Says what is wrong with a line."""
    try:
        image_list.parse_line(image_list.decode_line(line, where), class_num, where, require_labels=False)
    except image_list.ImageListError as error:
        return str(error)


def augmented(path, entries, pairs):
    """Yields an image list chunk by chunk, in its order.

    Args:
      path: of the list.
      entries: of the dictionary.
      pairs: (class, co-occurring class).

    Yields:
      bytes of the lines, augmented; a Counter of `closure.COUNTED` and FAULTS; and the wrong lines, which are not among
      the others: (line number, bytes).
    """
    before = 0
    for text, lines, counts, wrong in map_chunks(_augment, path, (closure.implied(entries, pairs),)):
        yield text, counts, [(before + number, line) for number, line in wrong]
        before += lines


def _augment(lines, implied):
    """Returns the text of lines, closed, their number, counts, and the wrong ones with their numbers from 1."""
    out, wrong, counts, number = [], [], Counter(), 0
    # Many rows have the same labels, those of ImageNet one of some ten thousand sets: {text: [closed, counts, times]}.
    known = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = image_list.decode_line(line, "")
            if not row:
                continue
            name, text = image_list.split_line(row, "")
            if text not in known:
                known[text] = [*_close(text, implied), 0]
        except image_list.ImageListError:
            counts.update(("rows", "rows that are wrong otherwise"))
            wrong.append((number, line))
            continue
        closed = known[text]
        closed[2] += 1
        counts[UNLABELED] += not text
        if closed[0] is None:
            counts["rows with an unknown class"] += 1
            wrong.append((number, line))
        else:
            out.append(f"{name}\t{closed[0]}\n")
    for _, compared, times in known.values():
        for name, count in zip(closure.COUNTED, compared, strict=False):
            counts[name] += times * count
    return "".join(out).encode(), number, counts, wrong


def _close(text, implied):
    """Returns the fields of a row, closed, or None if a class is unknown; and what `closure.compare` counts."""
    labels = image_list.parse_labels(text, None, "")
    if any(label >= len(implied) for label, _ in labels):
        return None, (1,)
    closed = closure.close(labels, implied)
    return image_list.format_labels(closed.keys(), closed.values()), closure.compare(labels, closed)


if __name__ == "__main__":
    run(main)
