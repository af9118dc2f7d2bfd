"""From classes of several sources to one vocabulary in WordNet: the steps of the paper's section 3, one function each.

Every step takes classes and returns those that it keeps and, for each that it does not, a `Decision`. Only
`hierarchy` and `number` say how classes relate.
"""

from collections import Counter
from typing import NamedTuple

from data_processing.lists import dictionary, wordnet

# A class that is one of these, or descends from one whichever way it goes up, is abstract: no image shows an event, a
# season (a measure of time), a quality, a thought. None of them has a descendant among the 11,166 published classes.
ABSTRACT = {
    "n00023773": "motivation",
    "n00028270": "time",
    "n00028651": "space",
    "n00029378": "event",
    "n00033615": "measure",
    "n04616059": "trait",
    "n04723816": "quality",
    "n05810143": "otherworld",
    "n06282651": "language",
    "n06598915": "message",
    "n07999699": "set",
}
# Too general to be a label; what descends from them is not.
GENERAL = {"n00001740": "entity", "n00001930": "physical entity", "n00002137": "abstraction"}
PHYSICAL_ENTITY = "n00001930"
OBJECT = "n00002684"


class Class(NamedTuple):
    """A class of a source: its id there, its name, its images (None: not counted) and its WordNet id or ""."""

    id: str
    name: str
    images: int | None
    wnid: str = ""


class Decision(NamedTuple):
    """Why a class is not one of its own: `outcome` in a word, `reason` for people, and whose it became or ""."""

    outcome: str
    reason: str
    wnid: str = ""


def map_labels(reader, labels, chosen, unsure="drop"):
    """Gives labels that are words their synsets.

    Args:
      reader: of `wordnet.load`.
      labels: list of `Class` without wnid.
      chosen: dictionary from a label's id to the WordNet id that a person chose, or "-" for none.
      unsure: what to do with a word of several senses that nobody chose: "drop" it, or take the "first", WordNet's
        most frequent.

    Returns:
      the classes with their wnid; {id: Decision}; and what a person should look at, rows (id, wnid, label, images,
      names, gloss), one for each sense of a word that has several.
    """
    kept, decisions, review = [], {}, []
    for label in labels:
        if label.id in chosen:
            if chosen[label.id] == "-":
                decisions[label.id] = Decision("no synset", "chosen by hand: WordNet has none that fits")
            else:
                wordnet.synset(reader, chosen[label.id])
                kept.append(label._replace(wnid=chosen[label.id]))
            continue
        senses = [wordnet.wnid(sense) for sense in reader.synsets(label.name.strip().replace(" ", "_"), "n")]
        if not senses:
            decisions[label.id] = Decision("no synset", f"WordNet has no noun '{label.name}'")
            continue
        if len(senses) > 1:
            for sense in senses:
                gloss = wordnet.synset(reader, sense).definition()
                count = "" if label.images is None else label.images
                review.append((label.id, sense, label.name, count, wordnet.names(reader, sense), gloss))
            if unsure == "drop":
                decisions[label.id] = Decision("unsure", f"{len(senses)} senses; choose one in the review file")
                continue
        kept.append(label._replace(wnid=senses[0]))
    return kept, decisions, review


def drop_rare(classes, min_images):
    """Drops classes with fewer images than `min_images`; those that nobody counted stay. Returns kept, decisions."""
    rare = {one.id for one in classes if one.images is not None and one.images < min_images}
    decisions = {
        one.id: Decision("rare", f"{one.images} images, fewer than {min_images}") for one in classes if one.id in rare
    }
    return [one for one in classes if one.id not in rare], decisions


def drop_abstract(reader, classes, abstract=ABSTRACT, listed=()):
    """Drops what no image shows.

    Args:
      reader: of `wordnet.load`.
      classes: list of `Class` with wnid.
      abstract: {id of a synset: its name}; a class goes if it is one, or has one on every way up to WordNet's top.
      listed: ids, of the source or WordNet's, that go too, but not their descendants. GENERAL ones always go.

    Returns the kept ones and {id: Decision}.
    """
    kept, decisions, known = [], {}, {}
    for one in classes:
        if one.id in listed or one.wnid in listed:
            decisions[one.id] = Decision("abstract", "in the list of abstract classes")
        elif one.wnid in GENERAL:
            decisions[one.id] = Decision("abstract", "too general to be a label")
        elif above := _barrier(reader, one.wnid, abstract, known):
            decisions[one.id] = Decision("abstract", f"a kind of {abstract[above]} ({above})")
        else:
            kept.append(one)
    return kept, decisions


def _barrier(reader, identifier, abstract, known):
    """An abstract synset on the ways up from a synset if each has one, else None."""
    if identifier in abstract:
        return identifier
    if identifier not in known:
        barriers = [_barrier(reader, one, abstract, known) for one in wordnet.hypernyms(reader, identifier)]
        known[identifier] = barriers[0] if barriers and all(barriers) else None
    return known[identifier]


def merge_synonyms(reader, classes):
    """Makes one class of those that mean the same.

    Classes with the same synset are one. Further, a class that came as a word (its id is not its wnid) joins one that
    came as a synset if they share a name and one is a kind of the other, or both are the same kind of thing; for two
    such synsets are two shades of one meaning, while others that share a name (a crane on a lake, a crane in a port)
    are not. Those stay, and are reported.

    Returns the kept ones, {id: Decision}, and the namesakes that stay, pairs (wnid, wnid).
    """
    kept, decisions, by_wnid = [], {}, {}
    for one in sorted(classes, key=lambda one: (one.id != one.wnid, one.wnid, one.id)):
        if one.wnid in by_wnid:
            other = by_wnid[one.wnid]
            decisions[one.id] = Decision("merged", f"the same synset as {other.id} ({other.name})", one.wnid)
        else:
            by_wnid[one.wnid] = one
            kept.append(one)
    by_name = {}
    for one in kept:
        for name in _lemmas(reader, one.wnid):
            by_name.setdefault(name, []).append(one)
    namesakes, gone = [], {}
    for one in kept:
        others = dict.fromkeys(o for name in _lemmas(reader, one.wnid) for o in by_name[name] if o.wnid != one.wnid)
        for other in others:
            if one.id != one.wnid and other.id == other.wnid and _near(reader, one.wnid, other.wnid):
                gone.setdefault(one.id, other)
            elif one.wnid < other.wnid:
                namesakes.append((one.wnid, other.wnid))
    for one in kept:
        if one.id in gone:
            other = gone[one.id]
            decisions[one.id] = Decision("merged", f"shares a name and its kind with {other.wnid}", other.wnid)
    # What joined a synset that then joined another, goes where that went.
    moved = {one.wnid: gone[one.id].wnid for one in kept if one.id in gone}
    decisions = {id: d._replace(wnid=moved.get(d.wnid, d.wnid)) for id, d in decisions.items()}
    namesakes = [pair for pair in namesakes if not set(pair) & set(moved)]
    return [one for one in kept if one.id not in gone], decisions, namesakes


def _lemmas(reader, identifier):
    return [name.lower() for name in wordnet.synset(reader, identifier).lemma_names()]


def _near(reader, one, other):
    up, up_other = wordnet.hypernyms(reader, one), wordnet.hypernyms(reader, other)
    return one in up_other or other in up or bool(set(up) & set(up_other))


def hierarchy(reader, wnids) -> dict[str, str | None]:
    """Returns for each class its parent: the nearest of its ancestors in WordNet that is a class itself.

    Nearest is what takes the fewest steps up. Of several that are as near, it is the one with the most classes below
    it, then the one with the lowest id. A class without such an ancestor is a root or, if it is no physical entity in
    WordNet (a shape like "bubble", a communication like "sign"), a child of "object, physical object" where that is a
    class: what an image shows of it is an object.

    The published hierarchy skips the nearest ancestor in about 8 % of the classes ("head" is a child of "body part",
    though "external body part" is a class, too). This one never does, so that its labels, closed, hold more ancestors.
    """
    steps = {one: wordnet.ancestors(reader, one) for one in wnids}
    below = Counter(ancestor for above in steps.values() for step in above for ancestor in step)
    parents = {}
    for one, above in steps.items():
        classes = next(filter(None, ([ancestor for ancestor in step if ancestor in steps] for step in above)), [])
        parents[one] = min(classes, key=lambda ancestor: (-below[ancestor], ancestor), default=None)
        physical = one == PHYSICAL_ENTITY or any(PHYSICAL_ENTITY in step for step in above)
        if not classes and not physical and OBJECT in steps:
            parents[one] = OBJECT
    return parents


def number(reader, parents) -> list[dictionary.Entry]:
    """Returns the classes as a dictionary, numbered breadth first from the roots, siblings by id.

    A parent so comes before its children, and the numbers follow from the set of classes alone.
    """
    children = {}
    for one in sorted(parents):
        children.setdefault(parents[one], []).append(one)
    order = list(children.get(None, []))
    for one in order:
        order.extend(children.get(one, []))
    index = {one: k for k, one in enumerate(order)}
    return [
        dictionary.Entry(k, one, -1 if parents[one] is None else index[parents[one]], wordnet.names(reader, one))
        for k, one in enumerate(order)
    ]
