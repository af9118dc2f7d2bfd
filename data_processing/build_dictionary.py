"""Makes one vocabulary and its hierarchy of the classes of several sources, by WordNet 3.0.

    python data_processing/build_dictionary.py --wnids=imagenet_ids.txt --class_descriptions=class-descriptions.csv \\
        --label_synsets=chosen.tsv --image_counts=counts.tsv --output_dir=vocabulary

Steps, in this order: words get their synset; rare classes are dropped, then abstract ones; synonyms are merged; the
hierarchy is built; classes are numbered. Writes into --output_dir:
    dictionary_and_semantic_hierarchy.txt   the classes, in the published format
    decisions.tsv                           what became of each class of each source, and why
    review.tsv                              words with several senses: delete all but the right line of each, and give
                                            the file as --label_synsets (its first two columns count)
    namesakes.tsv                           classes that share a name, and were not merged

ImageNet's ids (--wnids) are WordNet ids; a second column may hold their numbers of images. Open Images' classes
(--class_descriptions) are words. --image_counts, as `build_image_list.py` writes it, holds for both.
"""

from collections import Counter
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script
from absl import flags

flags.DEFINE_string("wnids", "", "Classes by WordNet id, n02084071 say: one a line, perhaps with images after a tab.")
flags.DEFINE_string("class_descriptions", "", "Open Images' class-descriptions.csv: classes that are words.")
flags.DEFINE_string("image_counts", "", "Images of each class: its id in the source, a tab, their number.")
flags.DEFINE_enum("unsure", "drop", ["drop", "first"], "A word of several senses that nobody chose: WordNet's first?")
flags.DEFINE_integer("min_images_wnids", 0, "As --min_images, for classes that came as WordNet ids.", lower_bound=0)
flags.DEFINE_string("abstract", "", "WordNet ids, one a line: their descendants are dropped. Default: a built-in set.")
flags.DEFINE_string("drop", "", "Classes to drop, by their id in the source or in WordNet, one a line.")
script(
    __name__,
    __doc__,
    first="wnids class_descriptions label_synsets image_counts min_images",
    required="output_dir",
    defaults={"min_images": 650},
)

from data_processing.lists import dictionary, vocabulary, wordnet
from data_processing.sources import labeled_images
from utils.files import write_tsv

DICTIONARY = "dictionary_and_semantic_hierarchy.txt"
COLUMNS = "id\tname\timages\toutcome\tclass\twnid\treason"


def main(argv):
    del argv
    if not (FLAGS.wnids or FLAGS.class_descriptions):
        raise ValueError("no classes: give --wnids, --class_descriptions or both")
    reader = wordnet.load()
    synsets, words = _read_classes(reader)
    chosen = _read_chosen(reader, words)
    abstract = _read_abstract(reader) if FLAGS.abstract else vocabulary.ABSTRACT
    listed = set(labeled_images.id_lines(FLAGS.drop)) if FLAGS.drop else ()

    mapped, unmapped, review = vocabulary.map_labels(reader, words, chosen, FLAGS.unsure)
    frequent_words, rare_words = vocabulary.drop_rare(mapped, FLAGS.min_images)
    frequent_synsets, rare_synsets = vocabulary.drop_rare(synsets, FLAGS.min_images_wnids)
    concrete, dropped = vocabulary.drop_abstract(reader, frequent_synsets + frequent_words, abstract, listed)
    kept, merged, namesakes = vocabulary.merge_synonyms(reader, concrete)
    if not kept:
        raise ValueError("no class is left; allow more with --min_images, --abstract or --unsure=first")
    entries = vocabulary.number(reader, vocabulary.hierarchy(reader, [one.wnid for one in kept]))

    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    dictionary.write(output / DICTIONARY, entries)
    decisions = unmapped | rare_words | rare_synsets | dropped | merged
    _write_decisions(output / "decisions.tsv", synsets + words, kept, decisions, entries)
    write_tsv(output / "review.tsv", "id\twnid\tlabel\timages\tnames\tgloss", review)
    shared = [(a, b, wordnet.names(reader, a), wordnet.names(reader, b)) for a, b in namesakes]
    write_tsv(output / "namesakes.tsv", "wnid\twnid\tnames\tnames", shared)
    _report(synsets + words, kept, decisions, entries, review)


def _read_classes(reader):
    """Returns the classes that came as WordNet ids, and those that came as words."""
    counts = {}
    if FLAGS.image_counts:
        for where, name, fields in labeled_images.id_rows(FLAGS.image_counts):
            counts[name] = _count(fields[0] if fields else "", where)
    synsets, words = [], []
    for where, wnid, fields in labeled_images.id_rows(FLAGS.wnids) if FLAGS.wnids else ():
        images = _count(fields[0], where) if fields and fields[0] else counts.get(wnid)
        synsets.append(vocabulary.Class(wnid, _names(reader, wnid, where), images, wnid))
    if FLAGS.class_descriptions:
        for name, word in labeled_images.class_descriptions(FLAGS.class_descriptions).items():
            # A class that nobody counted though others were has no image.
            words.append(vocabulary.Class(name, word, counts.get(name, 0) if counts else None))
    return synsets, words


def _count(text, where):
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{where}: '{text[:40]}' is no number of images")
    return int(text)


def _names(reader, wnid, where):
    """Returns the names of a WordNet id that was read at `where`, which WordNetError names if it is none."""
    try:
        return wordnet.names(reader, wnid)
    except wordnet.WordNetError as error:
        raise wordnet.WordNetError(f"{where}: {error}") from error


def _read_abstract(reader):
    """Returns {WordNet id: names} of --abstract."""
    return {wnid: _names(reader, wnid, where) for where, wnid, _ in labeled_images.id_rows(FLAGS.abstract)}


def _read_chosen(reader, words):
    """Returns {id: WordNet id or "-"} of --label_synsets."""
    if not FLAGS.label_synsets:
        return {}
    chosen = {}
    for where, name, fields in labeled_images.id_rows(FLAGS.label_synsets):
        if name == "id":  # the header of a review file
            continue
        if not fields or not fields[0]:
            raise ValueError(f"{where}: {name} has no WordNet id after a tab; write '-' if none fits")
        if fields[0] != "-":
            _names(reader, fields[0], where)
        chosen[name] = fields[0]
    unknown = sorted(chosen.keys() - {word.id for word in words})
    if unknown:
        print(f"{FLAGS.label_synsets}: {len(unknown):,} ids are of no class here, {unknown[0]} the first")
    return chosen


def _write_decisions(path, classes, kept, decisions, entries):
    """Writes a line for each class of each source, with the class that it is or became part of."""
    index = {entry.wnid: entry.index for entry in entries}
    wnids = {one.id: one.wnid for one in kept}
    rows = []
    for one in classes:
        decision = decisions.get(one.id) or vocabulary.Decision("kept", "", wnids[one.id])
        images = "" if one.images is None else one.images
        label = index.get(decision.wnid, "")
        rows.append((one.id, one.name, images, decision.outcome, label, decision.wnid, decision.reason))
    write_tsv(path, COLUMNS, rows)


def _report(classes, kept, decisions, entries, review):
    outcomes = Counter(decision.outcome for decision in decisions.values())
    others = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{len(classes):,} classes came, {len(kept):,} stay" + (f"; {others}" if others else ""))
    depths = [len(above) for above in dictionary.ancestors(entries)]
    roots = [entry.names for entry in entries if entry.parent == -1]
    leaves = len(entries) - len({entry.parent for entry in entries} - {-1})
    print(
        f"{len(roots)} trees ({'; '.join(roots[:5])}{'; …' if len(roots) > 5 else ''}), {leaves:,} leaves, depth "
        f"{max(depths)} at most, {sum(depths) / len(depths):.2f} on average"
    )
    if review:
        print(f"{len({row[0] for row in review}):,} words have several senses: choose in review.tsv")
    print(f"written into {FLAGS.output_dir}")


if __name__ == "__main__":
    # A word with fewer images is dropped (paper: 650).
    run(main)
